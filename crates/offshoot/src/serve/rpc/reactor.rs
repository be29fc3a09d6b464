//! The thread that serves, in the words in which SPDK tells of its reactors. There is one, and it sleeps when there is nothing
//! to do.

use super::answers::{Answer, now};
use super::desk::Desk;
use super::iostat::{TICK_RATE, ticks};
use super::scheduling::{Monitor, Switches};
use offshoot_rpc::types::framework::{
    ContextSwitchMonitor, Reactor, ReactorThread, Reactors, Scheduler, SetScheduler,
};
use offshoot_rpc::{Errno, Method};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::{Duration, Instant};
use tracing::info;

/// The one scheduler that one thread needs: it leaves everything where it is.
const SCHEDULER: &str = "static";

/// How often switches of context are told of.
const MONITOR_INTERVAL: Duration = Duration::from_secs(1);

/// What a core did for the system and for interrupts, in ticks of `/proc/stat`.
fn core_times(stat: &str, core: usize) -> (u64, u64) {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name));
    let column = |at: usize| line.and_then(|line| line.split(' ').nth(at)?.parse().ok()).unwrap_or(0);
    (column(3), column(6))
}

/// The CPUs that a thread may run on, in hexadecimal.
fn mask(cpus: &CpuSet) -> String {
    let digit =
        |at: usize| (0..4).filter(|bit| cpus.is_set(at * 4 + bit)).map(|bit| 1_u32 << bit).sum::<u32>();
    let digits: String =
        (0..CpuSet::MAX_CPU / 4).rev().filter_map(|at| char::from_digit(digit(at), 16)).collect();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}

impl Desk {
    pub(super) fn get_reactors(&self) -> Answer {
        let elapsed = ticks(self.started.elapsed());
        let cpu_time = clock_gettime(ClockId::ThreadCPUTime);
        let busy = Duration::try_from(cpu_time).map_or(0, ticks).min(elapsed);
        let core = sched_getcpu();
        let (sys, irq) = core_times(&fs::read_to_string("/proc/stat").unwrap_or_default(), core);
        let thread = ReactorThread {
            name: "app_thread".to_owned(),
            id: 1,
            cpumask: sched_getaffinity(None).map(|cpus| mask(&cpus)).unwrap_or_default(),
            elapsed,
        };
        let reactor = Reactor {
            lcore: core,
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            busy,
            idle: elapsed - busy,
            in_interrupt: true,
            irq,
            sys,
            lw_threads: vec![thread],
        };
        now(&Reactors { tick_rate: TICK_RATE, pid: std::process::id(), reactors: vec![reactor] })
    }

    pub(super) fn get_scheduler(&self) -> Answer {
        now(&Scheduler {
            scheduler_name: SCHEDULER.to_owned(),
            scheduler_period: self.scheduling.period,
            isolated_core_mask: "0x0".to_owned(),
            scheduling_core: sched_getcpu(),
        })
    }

    pub(super) fn set_scheduler(&mut self, method: &'static Method, params: &SetScheduler) -> Answer {
        let SetScheduler { name, period, load_limit, core_limit, core_busy, mappings } = params;
        let has_limits = [load_limit, core_limit, core_busy].into_iter().any(Option::is_some);
        if name != SCHEDULER || has_limits || mappings.is_some() {
            return Err(method.failed(Errno::Inval));
        }
        // Nothing, as SPDK has it, is what was before.
        if let Some(period) = period.filter(|period| *period > 0) {
            self.scheduling.period = period;
        }
        now(&true)
    }

    pub(super) fn monitor_context_switch(&mut self, params: Option<&ContextSwitchMonitor>) -> Answer {
        let monitor = &mut self.scheduling.monitor;
        match params {
            Some(ContextSwitchMonitor { enabled: true }) if monitor.is_none() => {
                *monitor = Some(Monitor { looked: Instant::now(), switches: Switches::of_this_thread() });
            }
            Some(ContextSwitchMonitor { enabled: false }) => *monitor = None,
            _ => {}
        }
        now(&ContextSwitchMonitor { enabled: monitor.is_some() })
    }

    /// Tells of the switches of context of the last second, if that is wanted and it is time for it.
    pub(super) fn watch_switches(&mut self) {
        let Some(monitor) = &mut self.scheduling.monitor else { return };
        let now = Instant::now();
        if now < monitor.looked + MONITOR_INTERVAL {
            return;
        }
        let switches = Switches::of_this_thread();
        let voluntary = switches.voluntary.saturating_sub(monitor.switches.voluntary);
        let involuntary = switches.involuntary.saturating_sub(monitor.switches.involuntary);
        if voluntary + involuntary > 0 {
            info!(voluntary, involuntary, "context switches in the last second");
        }
        *monitor = Monitor { looked: now, switches };
    }

    /// When to look at them next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.scheduling.monitor.map(|monitor| monitor.looked + MONITOR_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let stat = "cpu  9 9 9 9 9 9 9\ncpu1 1 2 3 4 5 6 7\ncpu10 10 20 30 40 50 60 70\n";
        assert_eq!(
            (core_times(stat, 1), core_times(stat, 10), core_times(stat, 2)),
            ((3, 6), (30, 60), (0, 0))
        );
    }

    #[test]
    fn masks_are_hexadecimal() {
        let mut cpus = CpuSet::new();
        assert_eq!(mask(&cpus), "0");
        cpus.set(0);
        cpus.set(5);
        cpus.set(8);
        assert_eq!(mask(&cpus), "121");
    }
}
