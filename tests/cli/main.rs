//! The real binary, as a person runs it: what it prints, what it leaves behind, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod bad_input;
mod choose_k;
mod config;
mod ensemble;
mod fetch;
mod formats;
mod interrupt;
mod machine;
mod merge;
mod mpi;
mod predict;
mod remedies;
mod rename;
mod report;
mod run;
mod slurm;
mod support;
mod sweep;
mod warm_start;
