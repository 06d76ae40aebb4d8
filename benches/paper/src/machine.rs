//! What can be said of the machine.

use crate::results::Machine;
use std::fs;
use std::path::Path;
use std::process::Command;

/// As it is now; `directory` is where logs are written.
pub(crate) fn describe(directory: &Path) -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let of = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let is_virtual = of("flags").split(' ').any(|flag| flag == "hypervisor");
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let meminfo = read("/proc/meminfo");
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let free = read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    Machine {
        processor: of("model name"),
        cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: read("/proc/sys/kernel/osrelease"),
        virtual_machine: is_virtual.then(hypervisor),
        governor: Some(governor).filter(|name| !name.is_empty()),
        memory_mib: memory.unwrap_or(0) / 1024,
        free_huge_pages: free.parse().unwrap_or(0),
        file_system: file_system(directory),
        programs: ["redis-server", "redis-benchmark"].into_iter().filter_map(version).collect(),
        ..Machine::default()
    }
}

/// Processes that run or want to, on an average over the last minute.
pub(crate) fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn hypervisor() -> String {
    let names = [read("/sys/class/dmi/id/sys_vendor"), read("/sys/class/dmi/id/product_name")];
    let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    if names.is_empty() { "of a kind that does not say its name".to_owned() } else { names.join(" ") }
}

/// The kind of the file system with the longest mount point above the directory.
fn file_system(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_default();
    let mounts = read("/proc/self/mounts");
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        directory.starts_with(point).then_some((point.len(), kind))
    });
    above.max_by_key(|(length, _)| *length).map_or("unknown", |(_, kind)| kind).to_owned()
}

fn version(program: &str) -> Option<(String, String)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some((program.to_owned(), text.lines().next()?.trim().to_owned()))
}
