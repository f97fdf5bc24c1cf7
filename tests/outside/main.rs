//! What people and other programs see of the operator: its commands, its page, its alerts.

mod alerts;
mod command;
mod documents;
mod lint;
mod page;
