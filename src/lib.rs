//! Miyako: the operator and everything that it is made of.
//!
//! Arrows point one way: `controller` drives [`observe`] → [`miyako_core::plan`] → [`act`]; [`sim`] builds a world in
//! which the same code runs.

pub mod act;
pub mod certificate;
pub mod clean_up;
pub mod clock;
pub mod command;
pub mod controller;
pub mod crds;
pub mod explain;
pub mod lint;
pub mod observe;
pub mod pages;
pub mod sim;
pub mod time;
pub mod web;

/// A text of at most so many characters, for a field or a message that takes no more; what was cut shows.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// An error with all its causes, in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
