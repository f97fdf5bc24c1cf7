//! Network cards that could wake the machine.

use super::files::Files;
use crate::power::preflight::NetworkCard;

/// Real cards: those with a device behind them that has a wake-up switch.
pub(super) fn network_cards(files: &Files) -> Vec<NetworkCard> {
    let cards = files.names("sys/class/net").into_iter().filter_map(|interface| {
        let switch = files.optional(&format!("sys/class/net/{interface}/device/power/wakeup"))?;
        // Empty: the device can't wake the machine.
        (!switch.is_empty()).then(|| NetworkCard { interface, armed: switch == "enabled" })
    });
    cards.collect()
}
