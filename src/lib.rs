//! Miyako.
