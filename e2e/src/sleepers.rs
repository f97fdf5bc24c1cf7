//! Nodes that sleep, on stands whose nodes are no machines: a simulated machine beneath each of them, which the agent's
//! real power role puts to sleep, whose kubelet is silent meanwhile, and which the real waker wakes by its button.
//!
//! ```text
//! operator ──NodePower──▶ power role ──mem──▶ simulated machine ──▶ kubelet silent, lease lapses
//!    └───────NodePower──▶ waker ──button───────────┘ after the resume time: awake, kubelet speaks
//! ```

use crate::control_plane::access::{TokenFor, client};
use crate::control_plane::nodes::{self, silence};
use crate::installation::{AGENT, WAKER};
use crate::scene::Scene;
use crate::wait::{Look, until};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use miyako_agent::power::order::LONGEST_ALARM;
use miyako_agent::power::preflight::WakeSource;
use miyako_agent::power::{self, Settings, SimulatedHost};
use miyako_agent::wake::{self, Driver, DriverError, PowerState, Reading};
use miyako_agent::waker::{MakeDriver, Waker};
use miyako_api::node_power_class::{WakeDriver, WakeProtocol};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It runs.
    On,
    /// It sleeps.
    Asleep,
    /// Its button was pressed.
    Resuming,
}

/// A node's machine.
#[derive(Debug)]
pub struct Sleeper {
    node: String,
    host: Arc<SimulatedHost>,
    resume: Duration,
    stage: watch::Sender<Stage>,
}

impl Sleeper {
    /// A machine that is usable so long after its button was pressed, with the power role of its node's agent and a
    /// kubelet that sleeps with it, until the scenario ends.
    ///
    /// # Errors
    /// When the agent's pod or its token can't be had.
    pub async fn begin(scene: &Scene, node: &str, resume: Duration) -> anyhow::Result<Arc<Self>> {
        let host = power_role(scene, node).await?;
        let sleeper = Arc::new(Self { node: node.to_owned(), host, resume, stage: watch::Sender::new(Stage::On) });
        let (followed, mut asleep) = (Arc::clone(&sleeper), sleeper.host.is_asleep());
        scene.play(async move {
            while asleep.changed().await.is_ok() {
                let stage = if *asleep.borrow_and_update() { Stage::Asleep } else { Stage::On };
                followed.stage.send_replace(stage);
            }
        });
        let (client, name, mut asleep) = (scene.admin(), sleeper.node.clone(), sleeper.host.is_asleep());
        scene.play(async move {
            while asleep.changed().await.is_ok() {
                let sleeps = *asleep.borrow_and_update();
                let said = if sleeps { silence(&client, &name).await } else { nodes::wake(&client, &name).await };
                if let Err(error) = said {
                    tracing::error!(%error, node = name, "the kubelet can't be told");
                }
            }
        });
        Ok(sleeper)
    }

    /// How far it is; to be followed by whatever sleeps with it.
    #[must_use]
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether it sleeps now, its button pressed or not.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        *self.host.is_asleep().borrow()
    }

    /// How often it fell asleep.
    #[must_use]
    pub fn sleeps(&self) -> u32 {
        self.host.sleeps()
    }

    /// Presses its button. Pressed twice it resumes once; one that is about to sleep stays awake.
    fn press(self: &Arc<Self>) {
        if self.resume.is_zero() || !self.is_asleep() {
            self.host.wake();
            return;
        }
        let pressed = |stage: &mut Stage| std::mem::replace(stage, Stage::Resuming) != Stage::Resuming;
        if self.stage.send_if_modified(pressed) {
            let resuming = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(resuming.resume).await;
                resuming.host.wake();
            });
        }
    }
}

/// A client with the rights of the agent's pod on a node.
///
/// # Errors
/// When there is no such pod in time, or no token for it.
pub async fn client_of_agent(scene: &Scene, node: &str) -> anyhow::Result<Client> {
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let agents =
        ListParams::default().labels("app.kubernetes.io/component=agent").fields(&format!("spec.nodeName={node}"));
    let pod = until(&format!("an agent's pod is on {node}"), Duration::from_mins(1), || async {
        Ok(Look::some(pods.list(&agents).await?.items.into_iter().next(), "none"))
    })
    .await?;
    let how = TokenFor { audiences: &[], pod: Some(&pod) };
    let token = scene.stand().token(scene.namespace(), AGENT, how).await?;
    client(&scene.stand().kubeconfig_for_token(&format!("agent-{node}"), &token)?).await
}

/// The power role of a node's agent, with the rights of its pod, on a machine that only seems to sleep. It plays until the
/// scenario ends.
///
/// # Errors
/// When the agent's pod or its token can't be had.
pub async fn power_role(scene: &Scene, node: &str) -> anyhow::Result<Arc<SimulatedHost>> {
    let client = client_of_agent(scene, node).await?;
    let host = Arc::new(SimulatedHost::new());
    let settings = Settings {
        node: node.to_owned(),
        wake_source: WakeSource::Controller,
        longest_sleep: LONGEST_ALARM,
        samples: None,
        version: "test",
    };
    let clock = Arc::new(|| Timestamp::now().as_millisecond());
    let run = power::run(Box::new(move || Ok(client.clone())), settings, Arc::clone(&host), clock, 1);
    scene.play(async move {
        let Err(error) = run.await;
        tracing::error!(%error, "the agent ended");
    });
    Ok(host)
}

/// Plays a waker, with the chart's rights, that presses the machines' buttons until the scenario ends.
///
/// # Errors
/// When it gets no client.
pub async fn play_waker<'a>(scene: &Scene, machines: impl Iterator<Item = &'a Arc<Sleeper>>) -> anyhow::Result<()> {
    let buttons = Buttons(machines.map(|machine| (machine.node.clone(), Arc::clone(machine))).collect());
    let client = scene.stand().client_for_service_account(scene.namespace(), WAKER).await?;
    let clock = Arc::new(|| Timestamp::now().as_millisecond());
    scene.play(Waker::new(client, "waker-0".into(), clock, Arc::new(buttons), 1).run());
    Ok(())
}

/// The machines' buttons, by node.
struct Buttons(BTreeMap<String, Arc<Sleeper>>);

/// One machine's button.
struct Button(Arc<Sleeper>);

impl MakeDriver for Buttons {
    fn make(
        &self,
        _: &WakeDriver,
        node: wake::Node<'_>,
        _: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<Box<dyn Driver>, String> {
        let machine = self.0.get(node.name).ok_or_else(|| format!("{} has no button", node.name))?;
        Ok(Box::new(Button(Arc::clone(machine))))
    }
}

impl Driver for Button {
    fn protocol(&self) -> WakeProtocol {
        WakeProtocol::Wol
    }

    fn address(&self) -> &str {
        &self.0.node
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        let sleeps = self.0.is_asleep() && *self.0.stage.borrow() != Stage::Resuming;
        let state = if sleeps { PowerState::Sleeping } else { PowerState::On };
        async move { Ok(Reading::sure(state, "the simulated machine")) }.boxed()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.0.press();
        async { Ok(()) }.boxed()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.wake()
    }
}
