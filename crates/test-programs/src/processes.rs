//! What `/proc` says of processes.

use std::fs;

/// The process and all of its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all().filter_map(|id| Some((id, parent(id)?))).collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&process) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == process).map(|(id, _)| id));
        next += 1;
    }
    tree
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc, which only Linux has");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `None` if the process has ended meanwhile.
fn parent(id: u32) -> Option<u32> {
    status(id, "PPid")?.parse().ok()
}

/// A line of the process's status, such as `VmRSS`, in megabytes.
pub fn memory(id: u32, line: &str) -> f64 {
    let value = status(id, line).unwrap_or_else(|| panic!("the process {id} has ended"));
    let kilobytes = value.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    kilobytes.expect("a number of kilobytes") / 1024.0
}

/// How long it has used a processor, in seconds, by itself and in the kernel.
pub fn processor_time(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("a running process");
    // The name, in parentheses, may contain anything. `utime` and `stime` are the 14th and 15th fields, in
    // hundredths of a second (proc_pid_stat(5)).
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().expect("a number of ticks") / 100.0).sum()
}

fn status(id: u32, line: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// How many sockets it has open.
pub fn sockets(id: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{id}/fd")).expect("a running process");
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}
