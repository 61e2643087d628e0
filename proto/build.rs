//! Compiles the contracts with a pure Rust compiler, so that a build needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["src/cri.proto"], ["src"])?;
    tonic_prost_build::configure()
        // Sorted maps: configs compare and print the same each time, and move over from API objects without a copy.
        .btree_map(".")
        // A server for tests answers some calls; the others are unimplemented.
        .generate_default_stubs(true)
        // Holds passwords; the library prints it by hand without them.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(files)?;
    println!("cargo:rerun-if-changed=src");
    Ok(())
}
