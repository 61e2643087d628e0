//! The one wiring file: builds the parts, starts them, stops them in order.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the agent with the given arguments (without the program's own name).
pub fn main(_args: Vec<OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
