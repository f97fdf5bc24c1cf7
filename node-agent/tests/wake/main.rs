//! The wake drivers against BMCs: emulators that others wrote where there are some, and scripted ones for what no
//! emulator plays.

mod amt;
mod ipmi;
mod peers;
mod pins;
mod quirks;
mod redfish;
mod secrets;
mod sequence;
mod wol;
