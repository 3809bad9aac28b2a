//! Migrations are embedded at compile time: a new file has to be noticed.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
