//! The command line as a user or a script meets it: the binary is run, and what it prints, returns and leaves behind
//! is looked at.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod bench;
mod changes;
mod copy;
mod damage;
mod decouple;
mod demo;
mod diff;
mod export;
mod external;
mod grow;
mod import;
mod inflate;
mod init;
mod locks;
mod looking;
mod merge;
mod metadata;
mod qcow2;
mod repair;
mod rpc;
mod seal;
