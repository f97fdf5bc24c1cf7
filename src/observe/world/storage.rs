//! Claims, volumes and classes: where a VM's disks can be used.

use crate::observe::convert::storage::{Claim, Class, Volume};
use miyako_core::model::{Name, NodeSelector, Unsupported, VmKey};
use std::collections::{BTreeMap, BTreeSet};

/// A claim by namespace and name.
pub(super) type ClaimKey = (Name, Name);

/// What the volumes of a VM ask of its node.
#[derive(Debug, Default)]
pub(super) struct Disks {
    /// Where they can be used: all of these must match.
    pub(super) places: Vec<NodeSelector>,
    /// How many there are of each CSI driver.
    pub(super) by_driver: BTreeMap<String, u64>,
}

/// All storage objects, and who uses which claim.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) claims: BTreeMap<ClaimKey, Claim>,
    pub(super) volumes: BTreeMap<Name, Volume>,
    pub(super) classes: BTreeMap<Name, Class>,
    users: BTreeMap<ClaimKey, BTreeSet<VmKey>>,
}

impl Storage {
    /// Notes which VM uses a claim.
    pub(super) fn used_by(&mut self, vm: &VmKey, claims: &BTreeSet<Name>) {
        for claim in claims {
            self.users.entry((vm.namespace.clone(), claim.clone())).or_default().insert(vm.clone());
        }
    }

    /// Forgets that a VM uses these claims.
    pub(super) fn no_longer_used_by(&mut self, vm: &VmKey, claims: &BTreeSet<Name>) {
        for claim in claims {
            let key = (vm.namespace.clone(), claim.clone());
            if let Some(users) = self.users.get_mut(&key) {
                users.remove(vm);
                if users.is_empty() {
                    self.users.remove(&key);
                }
            }
        }
    }

    /// The VMs that use a claim.
    pub(super) fn users_of(&self, claim: &ClaimKey) -> impl Iterator<Item = &VmKey> {
        self.users.get(claim).into_iter().flatten()
    }

    /// The VMs whose claims are bound to a volume.
    pub(super) fn users_of_volume<'a>(&'a self, volume: &'a Name) -> impl Iterator<Item = &'a VmKey> {
        let bound = self.claims.iter().filter(move |(_, claim)| claim.volume.as_ref() == Some(volume));
        bound.flat_map(|(key, _)| self.users_of(key))
    }

    /// Where all of these claims can be used, and how many volumes of each CSI driver they are.
    ///
    /// # Errors
    /// A claim whose place is not known: it is not bound yet, or not seen.
    pub(super) fn places(&self, namespace: &Name, claims: &BTreeSet<Name>) -> Result<Disks, Unsupported> {
        let mut disks = Disks::default();
        for name in claims {
            let unknown = |what: &str| Unsupported { field: format!("persistentVolumeClaim {name} ({what})") };
            let claim = self.claims.get(&(namespace.clone(), name.clone())).ok_or_else(|| unknown("not found"))?;
            let Some(volume) = &claim.volume else {
                let waits = self.class_of(claim).is_some_and(|class| class.waits_for_consumer);
                return Err(unknown(if waits { "WaitForFirstConsumer, not bound yet" } else { "not bound" }));
            };
            let volume = self.volumes.get(volume).ok_or_else(|| unknown("its volume is not found"))?;
            for place in &volume.places {
                if !disks.places.contains(place) {
                    disks.places.push(place.clone());
                }
            }
            if let Some(driver) = &volume.driver {
                *disks.by_driver.entry(driver.clone()).or_default() += 1;
            }
        }
        Ok(disks)
    }

    fn class_of(&self, claim: &Claim) -> Option<&Class> {
        self.classes.get(claim.class.as_ref()?)
    }

    /// Where a pod with these claims could run that has no node yet, as far as its claims tell. What they don't tell
    /// (how much room a provisioner has where) is found out by trying.
    pub(super) fn places_for_waiting(&self, namespace: &Name, claims: &BTreeSet<Name>) -> Disks {
        let mut disks = Disks::default();
        for name in claims {
            let place = match self.claims.get(&(namespace.clone(), name.clone())) {
                Some(claim) => self.places_of(claim, &mut disks.by_driver),
                // The scheduler waits for it, and no node helps.
                None => vec![nowhere()],
            };
            for place in place {
                if !disks.places.contains(&place) {
                    disks.places.push(place);
                }
            }
        }
        disks
    }

    /// All of these must match.
    fn places_of(&self, claim: &Claim, by_driver: &mut BTreeMap<String, u64>) -> Vec<NodeSelector> {
        if let Some(volume) = &claim.volume {
            // One that is not seen yet will be in a moment.
            let Some(volume) = self.volumes.get(volume) else { return vec![nowhere()] };
            if let Some(driver) = &volume.driver {
                *by_driver.entry(driver.clone()).or_default() += 1;
            }
            return volume.places.clone();
        }
        match self.class_of(claim) {
            Some(class) if class.waits_for_consumer && class.provisions => class.places.iter().cloned().collect(),
            Some(class) if class.waits_for_consumer => self.where_one_is_free(claim),
            // It is bound before its pod is placed, whatever nodes there are.
            _ => vec![nowhere()],
        }
    }

    /// Where a volume that nobody has yet would do.
    fn where_one_is_free(&self, claim: &Claim) -> Vec<NodeSelector> {
        let fits = |volume: &&Volume| volume.free && volume.class == claim.class && volume.size >= claim.size;
        let mut somewhere = nowhere();
        for volume in self.volumes.values().filter(fits) {
            match &volume.places[..] {
                [] => return Vec::new(),
                // Its zone labels, if it has any besides, are left out: too many nodes rather than too few.
                [place, ..] => somewhere.terms.extend(place.terms.iter().cloned()),
            }
        }
        vec![somewhere]
    }
}

/// No node matches it.
fn nowhere() -> NodeSelector {
    NodeSelector { terms: Vec::new() }
}
