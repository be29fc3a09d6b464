//! Words to the service manager that started the server, if one did (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};
use tracing::warn;

/// The service manager, or nobody.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
}

/// Who takes the server for dead when he hears nothing for too long.
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    /// How often he hears.
    every: Duration,
    /// When next.
    due: Instant,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let Some(place) = variable("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let interval = number("WATCHDOG_USEC").map(Duration::from_micros);
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Self::at(&place, interval.filter(|_| is_ours), Instant::now()).unwrap_or_else(|cause| {
            warn!(%cause, "the service manager is told nothing");
            Self::default()
        })
    }

    /// One that listens at an absolute path, or, after an `@`, under an abstract name.
    fn at(place: &OsStr, watchdog: Option<Duration>, now: Instant) -> io::Result<Self> {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(place)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold up clients.
        socket.set_nonblocking(true)?;
        // Half of what is allowed, as the manual advises.
        let watchdog = watchdog.map(|interval| Watchdog { every: interval / 2, due: now });
        Ok(Self { socket: Some((socket, address)), watchdog })
    }

    /// Clients can come.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status)));
    }

    /// The configuration is being read again; [`ServiceManager::ready`] ends that.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell(&format!("STOPPING=1\n{}", status_line("closing the stores")));
    }

    /// Says that the server lives, if it is time for that.
    pub(super) fn turn(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.due <= now
        {
            watchdog.due = now + watchdog.every;
            self.tell("WATCHDOG=1");
        }
    }

    /// When it is time for that.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watchdog.map(|watchdog| watchdog.due)
    }

    fn tell(&self, text: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(cause) = socket.send_to_addr(text.as_bytes(), address)
        {
            warn!(%cause, "the service manager was not told");
        }
    }
}

fn status_line(status: &str) -> String {
    format!("STATUS={}", status.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn words_arrive_at_paths_and_abstract_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("offshoot-test-{}", std::process::id());
        let places = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (place, socket) in places {
            let manager = ServiceManager::at(&place, None, Instant::now()).unwrap();
            manager.ready("two\nlines");
            assert_eq!(received(&socket), "READY=1\nSTATUS=two lines");
            manager.reloading();
            assert!(received(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            manager.stopping();
            assert!(received(&socket).starts_with("STOPPING=1\n"));
        }
        assert!(ServiceManager::at(OsStr::new("notify"), None, Instant::now()).is_err());
    }

    #[test]
    fn the_watchdog_hears_twice_as_often_as_it_must() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut manager = ServiceManager::at(path.as_os_str(), Some(second * 4), start).unwrap();
        for (at, told) in [(0, true), (1, false), (2, true), (3, false), (9, true)] {
            manager.turn(start + second * at);
            assert_eq!(socket.recv(&mut [0; 16]).is_ok(), told, "{at}");
        }
        assert_eq!(manager.deadline(), Some(start + second * 11));
        assert_eq!(ServiceManager::default().deadline(), None);
    }
}
