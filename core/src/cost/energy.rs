//! What a migration draws: Liu, section 4.

use super::input::{CostError, MEGABYTE, Problem, positive, refuse};
use crate::model::{Bytes, Joules};

/// E = α·V + β, both ends together: Liu, eq. 15, with V in megabytes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WiredEnergy {
    /// α, joules per megabyte.
    pub per_megabyte: f64,
    /// β, joules per migration.
    pub per_migration: f64,
}

impl WiredEnergy {
    /// As published: 0.512 J/MB and 20.165 J, R² 0.993 (Liu, eq. 17). Akiyama's eq. 5.2 cites it with 20.512 J, which is
    /// a slip of the pen. It was fitted on Dell PowerEdge 1950 with 1 GbE: fit your own.
    pub const PUBLISHED: Self = Self { per_megabyte: 0.512, per_migration: 20.165 };

    /// Fitted: per megabyte and per migration.
    ///
    /// # Errors
    /// Coefficients that are negative or no numbers.
    pub fn new(per_megabyte: f64, per_migration: f64) -> Result<Self, CostError> {
        for (field, value) in [("joules per megabyte", per_megabyte), ("joules per migration", per_migration)] {
            let problem = Problem::OutOfRange { value, least: 0.0, most: f64::MAX, unit: "" };
            match value {
                value if !value.is_finite() => return refuse(field, Problem::NotFinite),
                value if value < 0.0 => return refuse(field, problem),
                _ => {}
            }
        }
        Ok(Self { per_megabyte, per_migration })
    }

    /// The sum of what the source and the destination draw (Liu, eq. 14), when they are of different kinds.
    #[must_use]
    pub fn of_ends(source: Self, destination: Self) -> Self {
        Self {
            per_megabyte: source.per_megabyte + destination.per_megabyte,
            per_migration: source.per_migration + destination.per_migration,
        }
    }

    /// What a migration of that traffic draws beyond what its hosts draw anyway.
    #[must_use]
    pub fn of(&self, traffic: Bytes) -> Joules {
        let joules = self.per_megabyte * traffic.0 as f64 / MEGABYTE + self.per_migration;
        Joules::new(joules).unwrap_or(Joules::ZERO)
    }
}

/// Thermal noise at room temperature, kT, in watts per hertz.
pub const ROOM_NOISE: f64 = 1.380_649e-23 * 293.0;

/// What a mobile device draws for a migration over a wireless network: Liu, eqs. 18 to 20.
///
/// The R of these equations is the transmission rate per hertz of bandwidth. They are as printed, with `2^{2R}`: that is
/// the capacity of a real channel. Only the formula is here; nothing of Miyako migrates over a wireless network.
///
/// # Errors
/// No noise, or a rate per hertz that is not above zero or so large that no finite energy sends it.
pub fn wireless(traffic: Bytes, bits_per_second_per_hertz: f64, noise: f64) -> Result<Joules, CostError> {
    let noise = positive("noise power density", noise)?;
    let rate = positive("bits per second and hertz", bits_per_second_per_hertz)?;
    // Eq. 19. For small rates the difference would vanish; `exp_m1` keeps its limit, N₀·ln 2.
    let per_bit = noise * (2.0 * rate * std::f64::consts::LN_2).exp_m1() / (2.0 * rate);
    Joules::new(per_bit * 8.0 * traffic.0 as f64).map_err(|_| CostError {
        field: "bits per second and hertz",
        problem: Problem::OutOfRange { value: rate, least: 0.0, most: 512.0, unit: "" },
    })
}
