//! What the kernel command line says of the benchmark: words such as `miyako.pages=65536`; other words are the kernel's.

use crate::channel::{Intensity, Permille, Speed};

/// How the benchmark begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The working set, in pages of 4 KiB (`miyako.pages`).
    pub pages: u32,
    /// What its content grows from (`miyako.seed`).
    pub seed: u64,
    /// Target load of each virtual CPU in thousandths (`miyako.load`).
    pub load: Permille,
    /// Pages written and read in a thousand busy loops (`miyako.writes`, `miyako.reads`).
    pub intensity: Intensity,
    /// Not measured but told (`miyako.speed=loops,reads,writes` a second).
    pub speed: Option<Speed>,
}

impl Default for Boot {
    fn default() -> Self {
        Self { pages: 4096, seed: 1, load: Permille::default(), intensity: Intensity::BUSY_LOOP, speed: None }
    }
}

/// A word that can't be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel command line says {word:?}; {expected}")]
pub struct BadWord {
    word: String,
    expected: &'static str,
}

impl Boot {
    /// Reads a kernel command line.
    ///
    /// # Errors
    /// At the first `miyako.` word that is unknown or out of range.
    pub fn parse(line: &str) -> Result<Self, BadWord> {
        let mut boot = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some((name, value)) =
                word.strip_prefix("miyako.").map(|word| word.split_once('=').unwrap_or((word, "")))
            else {
                continue;
            };
            let bad = |expected| BadWord { word: word.to_owned(), expected };
            let number = value.parse::<u64>().map_err(|_| bad("a whole number is expected"));
            let times = number.clone().ok().and_then(|times| u32::try_from(times).ok());
            let times =
                times.filter(|times| *times <= Intensity::MOST).ok_or(bad("at most 100000 in a thousand loops"));
            match name {
                "pages" => boot.pages = u32::try_from(number?).map_err(|_| bad("so much memory no guest has"))?,
                "seed" => boot.seed = number?,
                "load" => boot.load = Permille::new(number?).ok_or(bad("at most 1000 thousandths of a CPU"))?,
                "writes" => boot.intensity.writes = times?,
                "reads" => boot.intensity.reads = times?,
                "speed" => boot.speed = Some(speed(value).ok_or(bad("loops,reads,writes in a second are expected"))?),
                _ => return Err(bad("no such setting is known")),
            }
        }
        Ok(boot)
    }

    /// The words that say this.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { pages, seed, load, intensity, speed } = self;
        let speed = speed.map(|Speed { loops, reads, writes }| format!(" miyako.speed={loops},{reads},{writes}"));
        format!(
            "miyako.pages={pages} miyako.seed={seed} miyako.load={} miyako.writes={} miyako.reads={}{}",
            load.thousandths(),
            intensity.writes,
            intensity.reads,
            speed.unwrap_or_default()
        )
    }
}

fn speed(value: &str) -> Option<Speed> {
    let mut numbers = value.split(',').map(|number| number.parse().ok().filter(|number| *number > 0));
    let speed = Speed { loops: numbers.next()??, reads: numbers.next()??, writes: numbers.next()?? };
    numbers.next().is_none().then_some(speed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_said_is_understood(pages: u32, seed: u64, load in 0..=1000u64, writes in 0..=Intensity::MOST, reads in 0..=Intensity::MOST,
                                      speed in prop::option::of((1..u64::MAX, 1..u64::MAX, 1..u64::MAX))) {
            let speed = speed.map(|(loops, reads, writes)| Speed { loops, reads, writes });
            let load = Permille::new(load).unwrap();
            let boot = Boot { pages, seed, load, intensity: Intensity { writes, reads }, speed };
            prop_assert_eq!(Boot::parse(&format!("console=ttyS0 {} quiet", boot.line())), Ok(boot));
        }

        #[test]
        fn no_line_panics(line: String, words in "(miyako.(load|pages|speed|seed|reads)=?[0-9,-]{0,25} ?){0,5}") {
            let _ = Boot::parse(&line);
            let _ = Boot::parse(&words);
        }
    }

    #[test]
    fn a_slip_is_named_with_what_was_expected() {
        let slip = |line: &str| Boot::parse(line).unwrap_err().to_string();
        assert_eq!(slip("miyako.laod=5"), r#"the kernel command line says "miyako.laod=5"; no such setting is known"#);
        assert!(slip("miyako.load=1001").ends_with("at most 1000 thousandths of a CPU"));
        assert!(slip("miyako.speed=1,0,2").ends_with("loops,reads,writes in a second are expected"));
        assert!(slip("miyako.pages").ends_with("a whole number is expected"));
    }
}
