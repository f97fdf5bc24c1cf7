//! People's switches, which only people turn off: not a deletion of their ConfigMap, and not a new one that a chart or a
//! GitOps tool makes in its place. Policies' statuses keep them over a restart.

use crate::observe::convert::switches::UNINSTALL;
use crate::observe::seen::ObjectKey;
use miyako_core::model::Switches;

/// What is said of a switch whose ConfigMap does not hold it any more.
const GONE: &str = "; its ConfigMap was deleted or made anew, and `miyako resume` releases it";

/// The switches as they are in their ConfigMap, and as they were last on.
#[derive(Debug, Default)]
pub(super) struct KeptSwitches {
    /// The ConfigMap's key, once it was seen.
    pub(super) key: Option<ObjectKey>,
    /// What it says, and whether `miyako resume` wrote it; none while it is not there.
    map: Option<(Switches, bool)>,
    /// What was last on, and not turned off by anybody.
    kept: Option<Switches>,
}

impl KeptSwitches {
    /// The ConfigMap as it is now.
    pub(super) fn put(&mut self, switches: Switches, resumed: bool) {
        self.map = Some((switches, resumed));
    }

    /// There is no ConfigMap.
    pub(super) fn gone(&mut self) {
        self.map = None;
    }

    /// The ConfigMap, for a list that may not hold it any more.
    pub(super) fn known(&self) -> Vec<ObjectKey> {
        self.map.as_ref().and(self.key.clone()).into_iter().collect()
    }

    /// What a policy's status told before anything was seen.
    pub(super) fn told(&mut self, switches: Option<&Switches>) {
        if let Some(switches) = switches {
            self.kept.get_or_insert_with(|| switches.clone());
        }
    }

    /// What is in force, now that everything is known.
    pub(super) fn in_force(&mut self) -> Switches {
        let now = match (&self.map, &self.kept) {
            (Some((found, resumed)), Some(kept)) if !resumed && found.of != kept.of => Switches {
                paused: found.paused.clone().or_else(|| marked(kept.paused.as_ref())),
                held: found.held.clone().or_else(|| marked(kept.held.as_ref()).filter(|by| !by.contains(UNINSTALL))),
                // Until somebody resumes, it is still the old one that is in force.
                of: kept.of.clone(),
            },
            (Some((found, _)), _) => found.clone(),
            (None, Some(kept)) => {
                let [paused, held] = [&kept.paused, &kept.held].map(|by| marked(by.as_ref()));
                Switches { paused, held, of: kept.of.clone() }
            }
            (None, None) => Switches::default(),
        };
        self.kept = now.is_on().then(|| now.clone());
        now
    }
}

fn marked(by: Option<&String>) -> Option<String> {
    by.map(|by| if by.ends_with(GONE) { by.clone() } else { format!("{by}{GONE}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::Uid;

    fn switches(of: &str, held: Option<&str>) -> Switches {
        Switches { paused: None, held: held.map(str::to_owned), of: Some(Uid::new(of)) }
    }

    fn held(kept: &mut KeptSwitches) -> Option<String> {
        kept.in_force().held
    }

    #[test]
    fn only_people_turn_a_switch_off() {
        let mut kept = KeptSwitches::default();
        kept.put(switches("a", Some("ana: upgrade")), false);
        assert_eq!(held(&mut kept).as_deref(), Some("ana: upgrade"));
        kept.gone();
        for _ in 0..2 {
            let by = held(&mut kept).expect("a deletion releases nothing");
            assert!(by.starts_with("ana: upgrade; its ConfigMap was deleted") && by.matches("resume").count() == 1);
        }
        kept.put(switches("b", None), false);
        assert!(held(&mut kept).is_some(), "a new ConfigMap was written by nobody");
        kept.put(switches("b", None), true);
        assert_eq!(held(&mut kept), None, "somebody resumed");
        kept.gone();
        assert_eq!(held(&mut kept), None);
        // The same object, by kubectl.
        kept.put(switches("c", Some("ben: audit")), false);
        held(&mut kept);
        kept.put(switches("c", None), false);
        assert_eq!(held(&mut kept), None);
    }

    #[test]
    fn a_restart_forgets_no_switch() {
        let told = switches("a", Some("ana: upgrade"));
        let restarted = || {
            let mut kept = KeptSwitches::default();
            kept.told(Some(&told));
            kept
        };
        assert!(held(&mut restarted()).is_some(), "its ConfigMap was deleted meanwhile");
        let mut same = restarted();
        same.put(switches("a", None), false);
        assert_eq!(held(&mut same), None, "it was turned off meanwhile");
        let mut new = restarted();
        new.put(switches("b", None), false);
        assert!(held(&mut new).is_some());
        // What holds for an uninstall ends with the chart.
        let mut again = KeptSwitches::default();
        again.told(Some(&switches("a", Some(&format!("miyako: {UNINSTALL}")))));
        again.put(switches("b", None), false);
        assert_eq!(held(&mut again), None);
    }
}
