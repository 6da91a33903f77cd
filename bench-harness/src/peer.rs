//! Whose scheduler a peer has.

use clap::ValueEnum;

use crate::measure::Contender;

/// The peers with a scheduler of their own. All others are floors: what the machine or the system does in the best case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Tokio,
    Smol,
    May,
    Rayon,
    Corosensei,
    /// OS threads.
    Std,
    Go,
    /// Of those above none.
    None,
}

impl Peer {
    /// By the words of its name.
    fn of(name: &str) -> Option<Peer> {
        let mut words = name.split(|c: char| !c.is_alphanumeric());
        words.find_map(|word| match word {
            "tokio" => Some(Peer::Tokio),
            "smol" => Some(Peer::Smol),
            "may" => Some(Peer::May),
            "rayon" => Some(Peer::Rayon),
            "corosensei" => Some(Peer::Corosensei),
            "std" | "OS" => Some(Peer::Std),
            "Go" => Some(Peer::Go),
            _ => None,
        })
    }
}

/// Whether it is to be measured: one of these peers, or none.
pub(crate) fn is_among(contender: &Contender, peers: &[Peer]) -> bool {
    !contender.peer || Peer::of(contender.name).is_none_or(|peer| peers.contains(&peer))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn floors_and_own_ones_stay() {
        let nothing = |_| Duration::ZERO;
        let all = [
            Contender::own("go", 1, nothing),
            Contender::peer("tokio, mpsc", 1, nothing),
            Contender::peer("2 coroutines (may)", 1, nothing),
            Contender::peer("std::thread, park", 1, nothing),
            Contender::peer("mmap and munmap", 1, nothing),
            Contender::peer("Go", 1, nothing),
        ];
        let named = |peers: &[Peer]| all.iter().filter(|c| is_among(c, peers)).map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(named(&[Peer::Go, Peer::May]), ["go", "2 coroutines (may)", "mmap and munmap", "Go"]);
        assert_eq!(named(&[Peer::Std]), ["go", "std::thread, park", "mmap and munmap"]);
        assert_eq!(named(&[Peer::None]), ["go", "mmap and munmap"]);
    }
}
