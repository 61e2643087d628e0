//! The pod workers in process, with everything that they talk to in memory and a clock that jumps: no root, seconds.

mod counted;
mod crash;
mod history;
mod life;
mod world;
