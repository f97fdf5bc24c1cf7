//! `miyako approve`: lets plans of policies in mode `Recommend` be carried out, in the caller's own name.

use super::cluster::{self, ClusterArgs, ClusterError};
use super::output::{self, Output};
use crate::pages;
use clap::Args;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::{PlanPhase, StepKind};
use miyako_api::names::manager;
use serde::Serialize;
use serde_json::json;
use std::{fmt, io};

/// Flags of `miyako approve`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  miyako approve pack-5d8a07c1\n  miyako approve --policy pack\n  miyako approve --all --output json"
)]
pub struct ApproveArgs {
    /// The ConsolidationPlans, by name.
    #[arg(value_name = "PLAN", required_unless_present_any = ["policy", "all"])]
    pub plans: Vec<String>,
    /// All plans of this policy that wait.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["plans", "all"])]
    pub policy: Option<String>,
    /// All plans that wait.
    #[arg(long, conflicts_with = "plans")]
    pub all: bool,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print what was approved.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why nothing, or not all, was approved.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// No way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The plans could not be read.
    #[error("cannot read {what}")]
    Read {
        /// Which.
        what: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// Some were not approved; the report says why.
    #[error("{0} plans were not approved")]
    Refused(usize),
    /// The report could not be printed.
    #[error("cannot print what was approved")]
    Print(#[from] io::Error),
}

/// What became of the plans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// In whose name.
    pub approved_by: String,
    /// Plan by plan.
    pub plans: Vec<Approval>,
}

/// What became of one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its name.
    pub plan: String,
    /// Its policy.
    pub policy: String,
    /// It is approved now.
    pub approved: bool,
    /// What it will do, step by step.
    pub steps: Vec<String>,
    /// Why it was not approved, or that it had been before.
    pub message: Option<String>,
}

impl fmt::Display for Approvals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plans.is_empty() {
            return write!(f, "No plan waits for approval.");
        }
        for plan in &self.plans {
            let verdict = if plan.approved { "approved by" } else { "NOT approved by" };
            writeln!(f, "{} of policy {}: {verdict} {}", plan.plan, plan.policy, self.approved_by)?;
            for text in plan.message.iter().chain(&plan.steps) {
                writeln!(f, "  {text}")?;
            }
        }
        Ok(())
    }
}

/// Runs the command.
///
/// # Errors
/// See [`ApproveError`].
pub async fn run(args: &ApproveArgs, out: &mut dyn io::Write) -> Result<(), ApproveError> {
    let client = args.cluster.client_for_ours().await?;
    let user = cluster::caller(&client).await?;
    let plans = match args.plans.is_empty() {
        false => named(&client, &args.plans).await?,
        true => waiting(&client, args.policy.as_deref()).await?,
    };
    let approvals = approve(&client, &user, plans).await;
    output::print(&approvals, args.output, out)?;
    let refused = approvals.plans.iter().filter(|plan| !plan.approved).count();
    if refused > 0 { Err(ApproveError::Refused(refused)) } else { Ok(()) }
}

async fn named(client: &Client, names: &[String]) -> Result<Vec<ConsolidationPlan>, ApproveError> {
    let api: Api<ConsolidationPlan> = Api::all(client.clone());
    let mut plans = Vec::new();
    for name in names {
        let read = |source| ApproveError::Read { what: format!("ConsolidationPlan {name}"), source: Box::new(source) };
        plans.push(api.get(name).await.map_err(read)?);
    }
    Ok(plans)
}

/// The plans that wait for approval, of one policy or of all.
///
/// # Errors
/// When they can't be listed.
pub async fn waiting(client: &Client, policy: Option<&str>) -> Result<Vec<ConsolidationPlan>, ApproveError> {
    let api: Api<ConsolidationPlan> = Api::all(client.clone());
    let read = |source| ApproveError::Read { what: "the ConsolidationPlans".to_owned(), source: Box::new(source) };
    let waits = |plan: &ConsolidationPlan| {
        refusal(plan).is_none() && !plan.spec.approved && policy.is_none_or(|policy| plan.spec.policy == policy)
    };
    let keep = |waiting: &mut Vec<ConsolidationPlan>, plan| waiting.extend(Some(plan).filter(waits));
    pages::fold(&api, &ListParams::default(), Vec::new, keep).await.map_err(read)
}

/// Approves plans in a user's name. One that can't be does not stop the others.
pub async fn approve(client: &Client, user: &str, plans: Vec<ConsolidationPlan>) -> Approvals {
    let api: Api<ConsolidationPlan> = Api::all(client.clone());
    let mut approvals = Approvals { approved_by: user.to_owned(), plans: Vec::new() };
    for plan in plans {
        let mut message = refusal(&plan);
        let mut approved = false;
        if message.is_none() && plan.spec.approved {
            approved = true;
            message = Some(format!("it was before, by {}", plan.spec.approved_by.as_deref().unwrap_or("somebody")));
        } else if message.is_none() {
            // The resourceVersion: what was shown is what is approved.
            let change = json!({
                "metadata": { "resourceVersion": plan.metadata.resource_version },
                "spec": { "approved": true, "approvedBy": user },
            });
            let params = PatchParams { field_manager: Some(manager::CLI.into()), ..PatchParams::default() };
            match api.patch(&plan.name_any(), &params, &Patch::Merge(change)).await {
                Ok(_) => approved = true,
                Err(kube::Error::Api(status)) => message = Some(status.message),
                Err(error) => message = Some(crate::error_chain(&error)),
            }
        }
        let steps = steps(&plan);
        approvals.plans.push(Approval { plan: plan.name_any(), policy: plan.spec.policy, approved, steps, message });
    }
    approvals
}

/// Why a plan can't be approved any more, or need not be.
fn refusal(plan: &ConsolidationPlan) -> Option<String> {
    let status = plan.status.as_ref();
    let why = match status.and_then(|status| status.phase) {
        None | Some(PlanPhase::Proposed | PlanPhase::Running) => {
            let automatic = plan.spec.mode == miyako_api::consolidation_policy::Mode::Automatic;
            return automatic.then(|| "it needs no approval: its policy is in mode Automatic".to_owned());
        }
        Some(PlanPhase::Succeeded) => "it has been carried out already",
        Some(PlanPhase::Failed) => "it has failed; if its reason remains, there will be a new plan",
        Some(PlanPhase::Expired) => "it has expired; if its reason remains, there will be a new plan",
        Some(PlanPhase::Refused) => "the safety check refused it; if its reason remains, there will be a new plan",
        Some(PlanPhase::Superseded) => {
            let newer = status.and_then(|status| status.superseded_by.as_deref());
            return Some(format!("a newer plan took its place: {}", newer.unwrap_or("see kubectl get cplan")));
        }
    };
    Some(why.to_owned())
}

fn steps(plan: &ConsolidationPlan) -> Vec<String> {
    let told = plan.spec.steps.iter().map(|step| match (&step.kind, &step.vm) {
        (StepKind::Migrate, Some(vm)) => format!(
            "moves {}/{} from {} to {}: {}",
            vm.namespace,
            vm.name,
            step.source_node.as_deref().unwrap_or("its node"),
            step.target_node,
            step.message
        ),
        _ => format!("wakes {}: {}", step.target_node, step.message),
    });
    told.collect()
}
