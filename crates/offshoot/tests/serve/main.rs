//! `offshoot serve`, driven from outside: by a small NBD client of the tests' own, and by the clients that people use.
#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod clients;
mod commands;
mod config;
mod content;
mod exports;
mod external;
mod jobs;
mod life;
mod limits;
mod load;
mod merge_by_hand;
mod metrics;
mod mount;
mod nested;
mod program;
mod qos;
mod real_input;
mod returns;
mod rpc;
mod sealing;
mod server;
mod stuck;
mod tls;
mod transcripts;
mod vbdevs;
mod watching;
mod wire;

#[path = "../common/mod.rs"]
mod common;
