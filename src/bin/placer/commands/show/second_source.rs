//! What hwloc knows beside sysfs: devices, caches, memory attributes. Never on the way of an advice.
//!
//! hwloc reads in a child process, a program of its own: see `src/bin/placer-hwloc.rs`.

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use placer_engine::source::hwloc::{Device, Helper, Hwloc, HwlocLoader};
use placer_engine::{SysRoot, Topology};
use serde_json::{Value, json};

use crate::companion;

/// hwloc takes 5 to 35 ms on real machines.
const LONGEST: Duration = Duration::from_secs(10);

/// hwloc at work in the background.
pub(crate) struct SecondSource {
    loader: HwlocLoader,
}

impl SecondSource {
    /// Starts reading, in a child.
    pub(crate) fn start(root: &SysRoot) -> Result<Self, Box<dyn Error>> {
        let helper = Helper::new(companion::program("placer-hwloc", "--devices")?);
        Ok(Self { loader: HwlocLoader::spawn_with(root.clone(), helper) })
    }

    fn facts(&self) -> Result<Arc<Hwloc>, Box<dyn Error>> {
        match self.loader.wait(LONGEST) {
            Some(Ok(facts)) => Ok(Arc::clone(facts)),
            Some(Err(error)) => Err(format!("hwloc: {}", placer::error_chain::chain(error)).into()),
            None => Err("hwloc: expected an answer within 10 s, found none".into()),
        }
    }

    /// Returns what hwloc sees otherwise than placer: the caches by which it chooses CPUs.
    pub(crate) fn differences(
        &self,
        topology: &Topology,
    ) -> Result<Option<String>, Box<dyn Error>> {
        Ok(self.facts()?.differing_caches(topology))
    }

    /// Returns the facts for programs.
    pub(crate) fn json(&self) -> Result<Value, Box<dyn Error>> {
        let facts = self.facts()?;
        let mut devices = Vec::new();
        for device in &facts.devices {
            let near = near(&facts, device);
            let names: Vec<&str> = device.os.iter().map(|os| os.name.as_str()).collect();
            devices.push(json!({ "address": device.address, "names": names, "nodes": near }));
        }
        Ok(json!({
            "devices": devices,
            "caches": facts.caches,
            "memory_attributes": facts.attributes,
        }))
    }

    /// Returns the facts for people, in 80 columns.
    pub(crate) fn text(&self) -> Result<String, Box<dyn Error>> {
        let facts = self.facts()?;
        let mut text = String::from("\ndevices and the nodes they are near to\n");
        if facts.devices.is_empty() {
            text.push_str("  none\n");
        }
        for device in &facts.devices {
            let names: Vec<&str> = device.os.iter().map(|os| os.name.as_str()).collect();
            let address = device.address.as_deref().unwrap_or("-");
            let near = near(&facts, device).unwrap_or_else(|| "not known".to_owned());
            let line = format!("  {address:<14} {near:<10} {}", names.join(" "));
            writeln!(text, "{}", line.trim_end())?;
        }
        for attribute in &facts.attributes {
            // Sizes and CPUs are in the table of nodes already.
            if matches!(attribute.name.as_str(), "Capacity" | "Locality") {
                continue;
            }
            writeln!(text, "\n{} of a node's memory, from its nearest CPUs", attribute.name)?;
            for value in &attribute.values {
                let from = value.initiator.as_ref();
                let from = from.map_or_else(|| "all".to_owned(), ToString::to_string);
                let unit = if attribute.name.contains("Latency") { "ns" } else { "MiB/s" };
                writeln!(text, "{:>6} {:>9} {unit:<6} CPUs {from}", value.node.0, value.value)?;
            }
        }
        Ok(text)
    }
}

/// Returns the nodes a device is near to; `None` when the kernel does not tell, which hwloc
/// shows as near to every CPU.
fn near(facts: &Hwloc, device: &Device) -> Option<String> {
    let told = device.cpus != facts.cpus || facts.nodes.len() == 1;
    told.then(|| device.nodes.to_string())
}
