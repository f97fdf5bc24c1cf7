//! The generated messages and the `Load` service.

#![allow(missing_docs, unreachable_pub, clippy::all)] // generated; what it says is written in `load.proto`

tonic::include_proto!("miyako.load.v1");
