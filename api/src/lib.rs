//! The API: our own resources, the few types of KubeVirt that we touch, and the names both sides agree on.

pub mod answer;
pub mod consolidation_plan;
pub mod consolidation_policy;
pub mod control_plane;
mod definitions;
pub mod duration;
pub mod kubevirt;
pub mod machine_health_check;
pub mod names;
pub mod neighbours;
pub mod node_health_check;
pub mod node_power;
pub mod node_power_class;
mod schema;
pub mod wake;
pub mod wire;

pub use consolidation_plan::ConsolidationPlan;
pub use consolidation_policy::ConsolidationPolicy;
pub use definitions::crds;
pub use node_power::NodePower;
pub use node_power_class::NodePowerClass;
