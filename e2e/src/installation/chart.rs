//! The chart, by the real helm.

use crate::child::Program;
use crate::scene::Scene;
use crate::tools::workspace_root;
use std::time::Duration;

/// How long helm may take for one command.
const PATIENCE: Duration = Duration::from_mins(3);

/// A chart of this repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// The operator and its agents.
    Miyako,
    /// The CustomResourceDefinitions.
    Crds,
}

impl Chart {
    /// Its name, which is also that of its release.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Miyako => "miyako",
            Self::Crds => "miyako-crds",
        }
    }

    /// Installs it into the scenario's namespace.
    ///
    /// # Errors
    /// What helm says.
    pub async fn install(self, scene: &Scene, values: &[&str]) -> anyhow::Result<String> {
        self.with_values(scene, "install", values).await
    }

    /// Installs it again over itself.
    ///
    /// # Errors
    /// What helm says.
    pub async fn upgrade(self, scene: &Scene, values: &[&str]) -> anyhow::Result<String> {
        self.with_values(scene, "upgrade", values).await
    }

    /// Uninstalls it.
    ///
    /// # Errors
    /// What helm says.
    pub async fn uninstall(self, scene: &Scene) -> anyhow::Result<String> {
        helm(scene, &["uninstall", self.name()]).await
    }

    async fn with_values(self, scene: &Scene, verb: &str, values: &[&str]) -> anyhow::Result<String> {
        let chart = workspace_root().join("charts").join(self.name());
        let chart = chart.to_string_lossy();
        let mut arguments = vec![verb, self.name(), &chart];
        for value in values {
            arguments.extend(["--set", value]);
        }
        helm(scene, &arguments).await
    }
}

/// Runs helm in the scenario's namespace, as the admin, and returns what it printed.
///
/// # Errors
/// When it fails; the message has what it printed.
pub async fn helm(scene: &Scene, arguments: &[&str]) -> anyhow::Result<String> {
    let homes = scene.stand().folder().join("helm");
    let mut program = Program::new("helm", scene.stand().tools().path("helm"))
        .flag("kubeconfig", scene.stand().admin_kubeconfig())
        .flag("namespace", scene.namespace());
    for home in ["CACHE", "CONFIG", "DATA"] {
        program = program.env(format!("HELM_{home}_HOME"), homes.join(home));
    }
    for argument in arguments {
        program = program.arg(argument);
    }
    scene.run(&program, PATIENCE).await
}
