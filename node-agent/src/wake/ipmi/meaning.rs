//! What the BMC's answers mean. Pure.

use crate::wake::{DriverError, PowerState, Reading, WattsReading};

/// What a completion code other than zero means (IPMI 2.0 table 5-2).
pub(super) fn refusal(completion: u8, what: &str) -> DriverError {
    let text = format!("{what}: completion code {completion:#04x}");
    match completion {
        0xc1 | 0xc2 => DriverError::NotSupported(format!("{text}, no such command")),
        0xd4 | 0xd6 => DriverError::NotPermitted(format!("{text}, the privilege does not suffice")),
        0xc0 | 0xc3 | 0xc4 | 0xce | 0xcf | 0xd0 | 0xd1 | 0xd2 | 0xd5 => DriverError::Busy(text),
        _ => DriverError::Refused(text),
    }
}

/// Joins the chassis' power bit (Get Chassis Status) with the ACPI state (Get ACPI Power State), where the BMC keeps one.
/// The latter is only as good as the BIOS that reports it, so an "on" never excludes sleep, but a sleep is believed.
///
/// # Errors
///
/// An answer without data.
pub(super) fn power_state(chassis: &[u8], acpi: Option<&[u8]>) -> Result<Reading, DriverError> {
    let status = chassis.first().ok_or_else(|| DriverError::Garbled("an empty chassis status".to_owned()))?;
    let on = status & 1 == 1;
    let acpi = acpi.and_then(|data| data.first()).map(|state| state & 0x7f);
    let word = if on { "on" } else { "off" };
    let evidence = match acpi {
        Some(state) => format!("chassis {word}, ACPI state {state:#04x}"),
        None => format!("chassis {word}"),
    };
    Ok(match acpi {
        // S1, S2, S3, and the two sums of them.
        Some(0x01..=0x03 | 0x08 | 0x09) => Reading::sure(PowerState::Sleeping, evidence),
        // S4, S5, either, mechanical off, the button's override.
        Some(0x04..=0x07 | 0x0a) if !on => Reading::sure(PowerState::Off, evidence),
        _ => Reading::main_power(if on { PowerState::On } else { PowerState::Off }, evidence),
    })
}

/// Reads the answer to DCMI's Get Power Reading (DCMI 1.5 table 6-16).
///
/// # Errors
///
/// A short answer, no measurement under way, or the figure that firmware fills in where it knows none.
pub(super) fn watts(data: &[u8]) -> Result<WattsReading, DriverError> {
    let garbled = || DriverError::Garbled("a short DCMI power reading".to_owned());
    let reading = data.get(..18).ok_or_else(garbled)?;
    let &[0xdc, low, high, ..] = reading else { return Err(garbled()) };
    let watts = f64::from(u16::from_le_bytes([low, high]));
    if watts == f64::from(u16::MAX) {
        return Err(DriverError::Garbled(
            "DCMI Get Power Reading says 65535 W: no figure, but all bits set".to_owned(),
        ));
    }
    if reading[17] & 0x40 == 0 || watts == 0.0 {
        return Err(DriverError::NotSupported("DCMI power measurement is not active".to_owned()));
    }
    Ok(WattsReading { watts, evidence: "DCMI Get Power Reading".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_acpi_state_sharpens_the_chassis_state() {
        let read = |chassis: u8, acpi: Option<u8>| {
            let reading = power_state(&[chassis, 0, 0], acpi.map(|state| vec![state, 0]).as_deref()).unwrap();
            (reading.state, reading.excludes_sleep)
        };
        assert_eq!(read(0x61, None), (PowerState::On, false));
        assert_eq!(read(0x60, None), (PowerState::Off, false));
        assert_eq!(read(0x61, Some(0)), (PowerState::On, false));
        assert_eq!(read(0x60, Some(3)), (PowerState::Sleeping, true));
        assert_eq!(read(0x61, Some(0x83)), (PowerState::Sleeping, true));
        assert_eq!(read(0x60, Some(5)), (PowerState::Off, true));
        assert_eq!(read(0x61, Some(5)), (PowerState::On, false), "an ACPI state that lags behind");
        assert_eq!(read(0x61, Some(0x2a)), (PowerState::On, false));
    }

    #[test]
    fn a_power_reading_is_little_endian_and_must_be_active() {
        let data = [0xdc, 0x2c, 0x01, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0xe8, 3, 0, 0, 0x40];
        assert_eq!(watts(&data).unwrap().watts, 300.0);
        assert!(matches!(watts(&[&data[..17], &[0]].concat()), Err(DriverError::NotSupported(_))));
        let all_set = [&[0xdc, 0xff, 0xff], &data[3..]].concat();
        assert!(watts(&all_set).unwrap_err().to_string().contains("65535 W"));
        assert!(matches!(refusal(0xc1, "DCMI"), DriverError::NotSupported(_)));
        assert!(matches!(refusal(0xd4, "x"), DriverError::NotPermitted(_)));
    }

    proptest! {
        #[test]
        fn any_data_has_a_meaning_or_an_error(a in prop::collection::vec(any::<u8>(), 0..24), b in prop::collection::vec(any::<u8>(), 0..4)) {
            let _ = (power_state(&a, Some(&b)), power_state(&a, None), watts(&a));
            if let Ok(reading) = watts(&a) {
                prop_assert!(reading.watts > 0.0 && reading.watts < 65535.0);
            }
        }
    }
}
