//! A decision in the making: the snapshot with its indexes, what is reserved so far, the plan and the report.

mod opening;

use super::coming::Coming;
use super::joint_load::{JointLoad, Tenant};
use super::place::Found;
use super::report::VmReports;
use super::shelf::Shelves;
use super::{
    AwakeBecause, Gate, NodeReport, NodeVerdict, PolicyReport, Report, StayReason, VmReport, VmVerdict, candidate,
    gate, identity,
};
use crate::fit::{Candidate, Occupancy};
use crate::model::{
    Blocker, Cores, LoadHistory, MigrateStep, MigrationChoice, MigrationMode, MoveReason, Node, NodeClass, NodeName,
    Plan, PlanName, Policies, Policy, PolicyName, PostCopyMark, PostCopyUse, RecordedStep, Role, Snapshot, Span, Step,
    StepOutcome, Timestamp, Vm, VmActivity, VmKey, VmMoves, WakeReason, WakeStep, WindowAverage,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// A VM with what belongs to it: joined once, because looking it up costs more than most questions about it.
#[derive(Clone, Copy)]
pub(super) struct Guest<'a> {
    /// Its place in the order of all VMs.
    number: usize,
    /// The VM.
    pub(super) vm: &'a Vm,
    /// What it used.
    pub(super) load: Option<&'a LoadHistory>,
    /// What we did to it lately.
    pub(super) moves: Option<&'a VmMoves>,
    /// Nothing keeps it from moving, as far as the policy of its node is concerned.
    may_move: bool,
}

impl Guest<'_> {
    /// What keeps it from moving at all.
    pub(super) fn obstacle(&self, policy: &Policy, now: Timestamp) -> Option<StayReason> {
        if self.may_move { None } else { candidate::movable(self.vm, self.moves, policy, now).err() }
    }
}

impl Deref for Guest<'_> {
    type Target = Vm;
    fn deref(&self) -> &Vm {
        self.vm
    }
}

/// A node with what the decision knows about it so far.
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) class: Option<&'a NodeClass>,
    pub(super) policy: Option<&'a Policy>,
    /// VMs that run here, until they are judged.
    pub(super) vms: Vec<Guest<'a>>,
    /// How many run here.
    hosted: u32,
    /// vCPUs of the VMs here and of those on their way here.
    pub(super) vcpus: u64,
    /// VMs here and on their way here.
    pub(super) guests: u32,
    /// Memory requests of the launchers here and on their way here.
    pub(super) guest_memory: u64,
    /// Load on its way here, which the average does not show yet.
    pub(super) arriving: Cores,
    /// On a shared node: what the VMs here and those on their way here used together.
    pub(super) joint: JointLoad<'a>,
    /// Moves from or to here that are not over.
    pub(super) moving: u32,
    /// Of these, the ones away from here.
    pub(super) leaving: u32,
    /// When a VM last came or left.
    pub(super) changed: Option<Timestamp>,
    /// The average over its policy's overload window.
    pub(super) load: WindowAverage,
    /// What was found about it.
    pub(super) verdict: NodeVerdict,
    /// What keeps it awake.
    pub(super) blockers: Vec<Blocker>,
    /// Why it is awake although nothing keeps it so.
    pub(super) awake_because: Option<AwakeBecause>,
    /// How it comes to be usable.
    pub(super) coming: Coming,
}

impl<'a> Place<'a> {
    pub(super) fn role(&self) -> Option<Role> {
        self.class.map(|class| class.role)
    }

    /// The CPU that VMs may use here.
    pub(super) fn capacity(&self) -> Cores {
        self.class.map_or(self.node.allocatable.cpu.cores(), |class| class.cpu_of(self.node))
    }

    /// A sample of its own is fresh.
    pub(super) fn is_measured(&self) -> bool {
        matches!(self.load, WindowAverage::Full(_) | WindowAverage::Filling { .. })
    }

    /// Whole cores that no VM owns, on a dedicated node.
    pub(super) fn empty_cores(&self) -> u64 {
        self.class.map_or(0, |class| class.cores_of(self.node)).saturating_sub(self.vcpus)
    }

    /// Notes a VM that runs here.
    fn host(&mut self, guest: Guest<'a>) {
        self.expect(guest.vm);
        self.add_tenant(guest.vm, guest.load, true);
        self.hosted += 1;
        self.vms.push(guest);
    }

    /// Counts a VM that runs here or is on its way.
    fn expect(&mut self, vm: &Vm) {
        self.vcpus += u64::from(vm.vcpus);
        self.guests += 1;
        self.guest_memory = self.guest_memory.saturating_add(vm.target.requests.memory.0);
    }

    /// Counts what a VM used towards what all of a shared node did.
    fn add_tenant(&mut self, vm: &Vm, load: Option<&'a LoadHistory>, runs_here: bool) {
        if self.policy.is_some() && self.role() == Some(Role::Shared) {
            self.joint.add(Tenant { vcpus: vm.vcpus, load, runs_here });
        }
    }

    fn report(self) -> NodeReport {
        NodeReport {
            class: self.class.map(|class| class.name.clone()),
            policy: self.policy.map(|policy| policy.name.clone()),
            role: self.role(),
            load: self.load,
            capacity: self.capacity(),
            vms: self.hosted,
            empty_cores: (self.role() == Some(Role::Dedicated)).then(|| self.empty_cores()),
            verdict: self.verdict,
            blockers: self.blockers,
            awake_because: self.awake_because,
        }
    }
}

/// The decision in the making. Nodes and VMs go by their numbers in the snapshot's order.
pub(super) struct Draft<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) policies: &'a Policies,
    pub(super) now: Timestamp,
    pub(super) seed: u64,
    /// All nodes.
    pub(super) places: Vec<Place<'a>>,
    /// The places that changed since the decision began, each as often as it did.
    pub(super) changed: Vec<usize>,
    /// The nodes that each policy rules.
    pub(super) shelves: BTreeMap<&'a PolicyName, Shelves<'a>>,
    pub(super) occupancy: Occupancy<'a>,
    /// VMs that a migration or an unfinished plan speaks for.
    spoken_for: BTreeMap<usize, Option<&'a PlanName>>,
    /// Migrations of ours that hold or will take one of KubeVirt's slots.
    pub(super) ours: u32,
    /// Unfinished migrations of anybody.
    pub(super) all: u32,
    /// The same as `ours`, by policy, proposals that wait for approval included.
    pub(super) by_policy: BTreeMap<&'a PolicyName, u32>,
    pub(super) gates: BTreeMap<&'a PolicyName, Gate>,
    /// Nodes that plans suspend, proposals that wait for approval included.
    pub(super) going_to_sleep: BTreeSet<usize>,
    /// Of these, the ones that sleep to show that they wake.
    pub(super) tested: BTreeSet<usize>,
    /// VMs that running plans will move, and have not asked KubeVirt for yet, with their targets.
    pub(super) promised: Vec<(&'a Vm, &'a NodeName)>,
    /// Moves begun within the last hour; counted only if a policy asks.
    begun_within_hour: usize,
    pub(super) plan: Plan,
    pub(super) report: Report,
    /// VMs that run on no known node.
    pub(super) homeless: Vec<Guest<'a>>,
    /// VMs with a constraint that is not understood.
    unsupported: Vec<usize>,
    /// What was said about each VM.
    verdicts: Vec<(VmKey, Option<VmReport>)>,
}

impl<'a> Draft<'a> {
    /// Indexes the snapshot and notes what is under way already.
    pub(super) fn open(snapshot: &'a Snapshot, policies: &'a Policies, now: Timestamp, seed: u64) -> Self {
        let mut draft = Self {
            snapshot,
            policies,
            now,
            seed,
            places: Vec::with_capacity(snapshot.nodes.len()),
            changed: Vec::new(),
            shelves: BTreeMap::new(),
            occupancy: Occupancy::new(snapshot),
            spoken_for: BTreeMap::new(),
            ours: 0,
            all: 0,
            by_policy: BTreeMap::new(),
            gates: BTreeMap::new(),
            going_to_sleep: BTreeSet::new(),
            tested: BTreeSet::new(),
            promised: Vec::new(),
            begun_within_hour: 0,
            plan: Plan::default(),
            report: Report::default(),
            homeless: Vec::new(),
            unsupported: Vec::new(),
            verdicts: snapshot.vms.keys().map(|vm| (vm.clone(), None)).collect(),
        };
        if policies.policies.values().any(|policy| policy.budgets.moves_per_hour.is_some()) {
            draft.begun_within_hour = snapshot.history.begun_within(now, Span::from_secs(3600));
        }
        for policy in policies.policies.values() {
            if let Some(gate) = gate::of(policy, snapshot, draft.begun_within_hour) {
                draft.gates.insert(&policy.name, gate);
            }
        }
        draft.note_classes();
        draft.note_nodes();
        draft.note_vms();
        draft.note_migrations();
        draft
    }

    /// A node's number.
    pub(super) fn number_of(&self, node: &NodeName) -> Option<usize> {
        self.occupancy.whereabouts().nodes.get(node)
    }

    /// A node by its name.
    pub(super) fn place(&self, node: &NodeName) -> Option<&Place<'a>> {
        self.number_of(node).map(|number| &self.places[number])
    }

    /// Whether a migration or an unfinished plan speaks for a VM.
    pub(super) fn is_spoken_for(&self, vm: &VmKey) -> bool {
        self.occupancy.whereabouts().number_of(vm).is_some_and(|number| self.spoken_for.contains_key(&number))
    }

    fn speak_for(&mut self, vm: &VmKey, plan: Option<&'a PlanName>) {
        if let Some(number) = self.occupancy.whereabouts().number_of(vm) {
            self.spoken_for.insert(number, plan);
        }
    }

    /// Notes a VM that a plan or migration speaks for already; `false` if none does.
    pub(super) fn note_spoken_for(&mut self, vm: &Guest<'_>, policy: &Policy) -> bool {
        let Some(plan) = self.spoken_for.get(&vm.number) else { return false };
        let verdict = match plan {
            Some(plan) => VmVerdict::Planned { plan: (*plan).clone() },
            None => VmVerdict::Stays { reason: StayReason::Busy { activity: VmActivity::Migrating } },
        };
        self.say(vm, Some(&policy.name), verdict);
        true
    }

    /// A VM's average over a window.
    pub(super) fn vm_load(&self, guest: &Guest<'_>, window: crate::model::Span) -> WindowAverage {
        guest.load.map_or(WindowAverage::Never, |load| load.average(self.now, window))
    }

    /// Whether one more migration of this policy may be started: KubeVirt's slots less what is left to others, and the
    /// policy's own limit (`docs/design/0001-kubevirt-facts.md`, "The five slots").
    pub(super) fn has_slot(&self, policy: &Policy) -> bool {
        let limit = self.snapshot.kubevirt.parallel_per_cluster;
        let allowance = limit.saturating_sub(policy.budgets.reserved_migrations).max(1).min(limit);
        let own = self.by_policy.get(&policy.name).copied().unwrap_or(0);
        let planned = self.plan.migrations().filter(|step| step.policy == policy.name).count();
        let this_hour = u32::try_from(self.begun_within_hour.saturating_add(planned)).unwrap_or(u32::MAX);
        self.ours < allowance
            && self.all < limit
            && policy.budgets.concurrent.is_none_or(|most| own < most)
            && policy.budgets.moves_per_hour.is_none_or(|most| this_hour < most)
    }

    /// Moves a VM to the place that was found for it, or wakes that place first.
    ///
    /// # Errors
    /// Why it stays for now.
    pub(super) fn go(
        &mut self,
        policy: &'a Policy,
        guest: Guest<'a>,
        found: Found,
        reason: MoveReason,
    ) -> Result<(), StayReason> {
        let vm = guest.vm;
        let Some(source) = vm.node.clone() else { return Err(StayReason::NoNode) };
        let mode = mode_for(policy, &guest, matches!(reason, MoveReason::Overload { .. }))?;
        match found {
            Found::Awake(_) if !self.has_slot(policy) => Err(StayReason::WaitsForSlot),
            Found::Awake(target) => {
                let attempt = candidate::attempt(vm, self.snapshot);
                self.move_vm(
                    MigrateStep {
                        policy: policy.name.clone(),
                        vm: vm.key.clone(),
                        uid: vm.uid.clone(),
                        source,
                        target,
                        mode,
                        migration: identity::migration_name(vm, attempt),
                        attempt,
                        reason,
                        users_policy: vm.user_migration_policy.clone(),
                    },
                    guest,
                );
                Ok(())
            }
            Found::Asleep(node) => {
                self.wake(policy, &node, WakeReason::ForMove { vm: vm.key.clone() });
                // Its room there is spoken for: another VM that needs a node gets another one, at once.
                if let Some(number) = self.number_of(&node) {
                    self.changed.push(number);
                    self.places[number].expect(vm);
                    self.occupancy.place(Candidate::target_of(vm), &self.places[number].node.name);
                }
                Err(StayReason::WaitsForWake { node })
            }
        }
    }

    /// Adds a wake to the plan, unless the node is woken already.
    pub(super) fn wake(&mut self, policy: &Policy, node: &NodeName, reason: WakeReason) {
        let planned = |step: &Step| matches!(step, Step::Wake(wake) if wake.node == *node);
        let recorded = |step: &RecordedStep| {
            matches!(step, RecordedStep::Wake { node: woken, outcome, .. }
                if woken == node && matches!(outcome, StepOutcome::Waiting | StepOutcome::Running))
        };
        // Nobody is asked about this wake if it is due, so it does not wait for a plan that waits for people.
        let due = reason.kind().is_due();
        let standing = self.snapshot.plans.values().filter(|record| {
            let stands = matches!(self.report.proposals.get(&record.name), Some(super::ProposalVerdict::Stands));
            stands && (!due || record.is_cleared())
        });
        let on_its_way = self.place(node).is_some_and(|place| place.coming == Coming::OnItsWay);
        if on_its_way || self.plan.steps.iter().any(planned) || standing.flat_map(|record| &record.steps).any(recorded)
        {
            return;
        }
        self.plan.steps.push(Step::Wake(WakeStep { policy: policy.name.clone(), node: node.clone(), reason }));
    }

    /// Adds a move to the plan and reserves what it takes.
    fn move_vm(&mut self, step: MigrateStep, guest: Guest<'a>) {
        let vm = guest.vm;
        let (source, target) = (vm.node.as_ref(), self.snapshot.nodes.get(&step.target).map(|node| &node.name));
        self.spoken_for.insert(guest.number, None);
        self.ours += 1;
        self.all += 1;
        if let Some((name, _)) = self.policies.policies.get_key_value(&step.policy) {
            *self.by_policy.entry(name).or_default() += 1;
        }
        self.note_traffic(Some(vm), source, target);
        if let Some(target) = target {
            self.occupancy.place(Candidate::target_of(vm), target);
        }
        self.say(&guest, Some(&step.policy), VmVerdict::Moves { target: step.target.clone(), reason: step.reason });
        self.plan.steps.push(Step::Migrate(step));
    }

    /// Notes why a VM stays.
    pub(super) fn stays(&mut self, guest: &Guest<'_>, policy: Option<&PolicyName>, reason: StayReason) {
        self.say(guest, policy, VmVerdict::Stays { reason });
    }

    /// Notes what becomes of a VM.
    pub(super) fn say(&mut self, guest: &Guest<'_>, policy: Option<&PolicyName>, verdict: VmVerdict) {
        self.verdicts[guest.number].1 = Some(VmReport { policy: policy.cloned(), verdict });
    }

    /// The nodes of a policy in this role, by name.
    pub(super) fn nodes_of(&self, policy: &PolicyName, role: Role) -> impl Iterator<Item = &Place<'a>> {
        self.numbers_of(policy, role).iter().map(|&number| &self.places[number])
    }

    /// Their numbers.
    pub(super) fn numbers_of(&self, policy: &PolicyName, role: Role) -> &[usize] {
        self.shelves.get(policy).map_or(&[], |shelves| &shelves.of(role).by_name)
    }

    /// Fills in the sums and hands out plan and report.
    pub(super) fn close(mut self) -> (Plan, Report) {
        for place in self.places {
            let name = place.node.name.clone();
            let (power, policy) = (place.node.power, place.policy);
            let report = place.report();
            if let Some(policy) = policy.and_then(|policy| self.report.policies.get_mut(&policy.name)) {
                policy.count(&report, power);
            }
            self.report.nodes.insert(name, report);
        }
        let policies = &mut self.report.policies;
        let mut policy_of = |said: &Option<VmReport>, count: fn(&mut PolicyReport)| {
            let policy = said.as_ref().and_then(|said| said.policy.as_ref());
            policies.get_mut(policy?).map(count)
        };
        for (_, said) in &self.verdicts {
            policy_of(said, |policy| policy.vms += 1);
        }
        for number in self.unsupported {
            policy_of(&self.verdicts[number].1, |policy| policy.unsupported += 1);
        }
        self.report.vms = VmReports::of(self.verdicts);
        (self.plan, self.report)
    }
}

/// How this VM is moved for this policy: `Auto` relieves an overload by post-copy and returns by pre-copy, within what
/// the policy and the VM's owner allow, because a failed post-copy loses the VM. A mode that KubeVirt ignored lately is
/// not asked for again: nobody knows how the VM would be moved instead.
///
/// # Errors
/// No mode is left.
pub(super) fn mode_for(policy: &Policy, vm: &Guest<'_>, relief: bool) -> Result<MigrationMode, StayReason> {
    let wanted = match policy.migration {
        MigrationChoice::PostCopy => true,
        MigrationChoice::PreCopy => false,
        MigrationChoice::Auto => relief,
    };
    let allowed = match policy.post_copy {
        PostCopyUse::Never => false,
        PostCopyUse::OptIn => vm.marks.post_copy == Some(PostCopyMark::Allow),
        PostCopyUse::Allow => vm.marks.post_copy != Some(PostCopyMark::Never),
    };
    let is_ignored = |mode| vm.moves.is_some_and(|moves| moves.ignored.contains(&mode));
    if wanted && allowed && !vm.host_device && !is_ignored(MigrationMode::PostCopy) {
        return Ok(MigrationMode::PostCopy);
    }
    let mode = MigrationMode::PreCopy;
    if is_ignored(mode) { Err(StayReason::ModeIgnored { mode }) } else { Ok(mode) }
}
