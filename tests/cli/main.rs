//! The real binary, as a person runs it: what it prints, what it leaves behind, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod bad_input;
mod config;
mod fetch;
mod formats;
mod interrupt;
mod machine;
mod predict;
mod remedies;
mod report;
mod run;
mod support;
mod sweep;
