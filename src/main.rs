//! argv → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubelet_rs::app::main(std::env::args_os().skip(1).collect())
}
