//! The DSDT: the devices that a guest cannot find by itself, as AML.

use super::table;
use crate::device::{power, rtc, uart};
use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Method, Name, Notify, Package, Path, ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// As many as have a name: `C000` to `CFFF`.
pub const MOST_PROCESSORS: u32 = 0x1000;

/// Revision 2 and later: integers of 64 bits (ACPI 5.2.11.1).
const REVISION: u8 = 2;

/// Builds the DSDT of a guest with `processors` (at most [`MOST_PROCESSORS`]) processors.
pub fn build(processors: u32) -> Sdt {
    let mut devices = Vec::new();
    for number in 0..processors {
        processor(number, &mut devices);
    }
    serial_port(&mut devices);
    clock(&mut devices);
    power_button(&mut devices);
    let mut body = Scope::raw(Path::new("\\_SB_"), devices);
    // The sleep type for both PM1 registers; here the first is for the sleep control register (ACPI 7.4.2.6).
    let sleep_types = Package::new(vec![&power::S5_SLEEP_TYPE, &0u8]);
    Name::new(Path::new("\\_S5_"), &sleep_types).to_aml_bytes(&mut body);
    table(*b"DSDT", REVISION, &body)
}

fn hardware_id(id: &str) -> Name {
    Name::new(Path::new("_HID"), &EISAName::new(id))
}

fn unique_id(number: u32) -> Name {
    Name::new(Path::new("_UID"), &number)
}

fn resources(children: Vec<&dyn Aml>) -> Name {
    Name::new(Path::new("_CRS"), &ResourceTemplate::new(children))
}

/// `count` ports from `first`, at that place only.
fn ports(first: u16, count: u16) -> IO {
    /// Any; the range leaves no choice.
    const ALIGNMENT: u8 = 1;
    IO::new(first, first, ALIGNMENT, count as u8)
}

/// The IOAPIC's pin of that number, which is nobody else's.
fn interrupt(pin: u8) -> Interrupt {
    let (consumer, edge_triggered, active_low, shared) = (true, true, false, false);
    Interrupt::new(consumer, edge_triggered, active_low, shared, pin.into())
}

/// A processor; its `_UID` is the processor ID in the MADT (ACPI 8.4).
fn processor(number: u32, devices: &mut Vec<u8>) {
    let hardware_id = Name::new(Path::new("_HID"), &"ACPI0007");
    let unique_id = unique_id(number);
    let name = format!("C{number:03X}");
    Device::new(Path::new(&name), vec![&hardware_id, &unique_id]).to_aml_bytes(devices);
}

/// A 16550A-compatible port.
fn serial_port(devices: &mut Vec<u8>) {
    let ports = ports(uart::COM1_PORT, uart::PORT_COUNT);
    let interrupt = interrupt(uart::COM1_IRQ);
    let resources = resources(vec![&ports, &interrupt]);
    Device::new(Path::new("COM1"), vec![&hardware_id("PNP0501"), &unique_id(1), &resources])
        .to_aml_bytes(devices);
}

/// The clock, without an interrupt.
fn clock(devices: &mut Vec<u8>) {
    let ports = ports(rtc::INDEX_PORT, rtc::PORT_COUNT);
    let resources = resources(vec![&ports]);
    Device::new(Path::new("RTC_"), vec![&hardware_id("PNP0B00"), &resources]).to_aml_bytes(devices);
}

/// The power button, and the device that says when it is pressed: hardware-reduced ACPI has no fixed event for it
/// (ACPI 4.8.2.2.1.2), so an interrupt of its own runs a method (ACPI 5.6.9).
fn power_button(devices: &mut Vec<u8>) {
    const NAME: &str = "PWRB";
    Device::new(Path::new(NAME), vec![&hardware_id("PNP0C0C")]).to_aml_bytes(devices);
    // No compressed EISA ID: its vendor has four letters.
    let hardware_id = Name::new(Path::new("_HID"), &"ACPI0013");
    let interrupt = interrupt(power::BUTTON_IRQ);
    let resources = resources(vec![&interrupt]);
    let button = Path::new(NAME);
    let pressed = Notify::new(&button, &power::BUTTON_PRESSED);
    // Of its one interrupt, whatever number it is called with.
    let event = Method::new(Path::new("_EVT"), 1, true, vec![&pressed]);
    Device::new(Path::new("GED_"), vec![&hardware_id, &unique_id(0), &resources, &event])
        .to_aml_bytes(devices);
}
