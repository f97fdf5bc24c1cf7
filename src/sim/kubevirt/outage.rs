//! Parts of KubeVirt that are away for a while: killed, evicted, without their lease.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Which parts are away just now. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Outages(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    controller: AtomicBool,
    api: AtomicBool,
}

impl Outages {
    /// virt-controller goes or comes back. Without it no VMIM changes its phase and no launcher is made; what the
    /// virt-handlers were told before goes on.
    pub fn set_virt_controller_away(&self, away: bool) {
        self.0.controller.store(away, Ordering::SeqCst);
    }

    /// virt-api goes or comes back. Without it whatever its webhooks judge is answered with 500: new VMIMs, changes of
    /// VMIs, even by KubeVirt itself, and evictions of any pod. Deleting a VMIM works.
    pub fn set_virt_api_away(&self, away: bool) {
        self.0.api.store(away, Ordering::SeqCst);
    }

    pub(super) fn is_virt_controller_away(&self) -> bool {
        self.0.controller.load(Ordering::SeqCst)
    }

    pub(super) fn is_virt_api_away(&self) -> bool {
        self.0.api.load(Ordering::SeqCst)
    }
}
