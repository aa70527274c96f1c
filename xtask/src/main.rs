//! `cargo xtask`: see `cargo xtask help`.
use std::path::Path;
fn main() -> anyhow::Result<()> {
    let t = xtask::toolchain::Toolchain::find()?;
    eprintln!("{}", t.description());
    let h = xtask::hypervisor::build(&t)?;
    let out = xtask::workspace::target().join("try.img");
    xtask::image::write(
        &t,
        &h,
        Path::new("/tmp/g/bundle"),
        xtask::image::Firmware::Bios,
        &out,
    )
}
