//! What follows from a waker's words: [`Look`]'s part that listens.

use super::advance::Look;
use super::times::{CLAIM_STANDS, TAKES_UP_WITHIN, WORTH_TELLING};
use super::{PhaseChange, Write};
use crate::model::{Desired, PowerState, Timestamp, Wakeable, WakerOutcome};

impl Look<'_> {
    /// What every driver said, if all of them failed to carry out the order that stands. A node that answers is
    /// wiser than they.
    pub(super) fn drivers_failed(&self) -> Option<String> {
        let word = self.record.waker_word().filter(|_| !self.facts.ready && !self.record.is_ordered_asleep())?;
        (word.outcome == Some(WakerOutcome::Failed)).then(|| word.words())
    }

    /// What a waker made of the order so far, for a node that does not answer yet.
    pub(super) fn how_it_goes(&self) -> Option<(String, Option<(Wakeable, Timestamp)>)> {
        let order =
            self.record.order.as_ref().filter(|order| order.generation > 0 && order.desired == Desired::Awake)?;
        if self.facts.ready {
            return None;
        }
        let (asked, why) = (self.now.since(order.issued), &order.reason);
        let silent = |who: &str| {
            let message = format!(
                "{who}: see whether the Deployment miyako-waker runs (kubectl get deployment -A -l app.kubernetes.io/component=waker) and what its pods log; meanwhile `miyako wake-kit` says how to wake the node by hand"
            );
            Some((message, self.known(Wakeable::WakerSilent)))
        };
        match self.record.waker_word() {
            None if asked >= TAKES_UP_WITHIN => silent("no waker has taken up the order to wake this node"),
            Some(word) if word.outcome.is_none() && self.now.since(word.at) >= CLAIM_STANDS => {
                silent(&format!("the waker {} took up the order to wake this node and fell silent", word.by))
            }
            Some(word) if word.outcome.is_some() && asked >= WORTH_TELLING => {
                Some((format!("{why}; {}", word.words()), self.record.wakeable.filter(|it| it.0.holds())))
            }
            _ => None,
        }
    }

    /// Writes a phase that only says more, if it does.
    pub(super) fn tells(&self, change: PhaseChange) -> Option<Write> {
        let said = self.record.message.as_ref() == Some(&change.message) && self.record.wakeable == change.wakeable;
        (!said).then(|| Write::Phase(Box::new(change)))
    }

    pub(super) fn gives_up(&self, message: &str, wakeable: Wakeable) -> Write {
        let mut change = self.change(PowerState::Quarantined, message);
        (change.woke, change.wakeable) = (Some(false), self.known(wakeable));
        Write::Phase(Box::new(change))
    }

    /// The condition, with the time of its status's last change.
    pub(super) fn known(&self, wakeable: Wakeable) -> Option<(Wakeable, Timestamp)> {
        let same = self.record.wakeable.filter(|(before, _)| before.holds() == wakeable.holds());
        Some((wakeable, same.map_or(self.now, |(_, since)| since)))
    }
}
