//! What waits to be written, and floods: of one address and kind the first few stand for themselves, and one record tells how many
//! more there were. Nothing here grows without bound.

use portcullis_tenancy::audit::{Entry, Kind, Note};
use portcullis_tenancy::limit::client_address;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How many of an address and kind stand for themselves before they are summed up.
const SINGLES: u32 = 3;
/// After how long a sum is written down; it doubles for as long as there are more.
const FIRST_SUM: Duration = Duration::from_secs(10);
const LONGEST_SUM: Duration = Duration::from_secs(600);
/// Addresses and kinds that are kept apart; the further ones are summed up by kind.
const MAX_FLOODS: usize = 1024;
/// Records that stand for themselves in [`FIRST_SUM`], of all addresses together.
const MAX_SINGLES: u32 = 500;

/// The queue.
pub struct Queue {
    most: usize,
    waiting: VecDeque<Entry>,
    floods: HashMap<(Kind, Option<IpAddr>), Flood>,
    /// Since when singles are counted, and how many there were.
    singles: Option<(Instant, u32)>,
}

struct Flood {
    since: Instant,
    length: Duration,
    singles: u32,
    /// What came beyond those.
    sum: Option<Note>,
}

impl Queue {
    /// An empty one.
    pub fn new(most: usize) -> Self {
        Self { most, waiting: VecDeque::new(), floods: HashMap::new(), singles: None }
    }

    /// The note, where it stands for itself; else it is summed up.
    pub fn tell(&mut self, note: Note, now: Instant) -> Option<Note> {
        let own = (note.kind, note.address.map(client_address));
        let is_known = self.floods.contains_key(&own);
        let key = if is_known || self.floods.len() < MAX_FLOODS { own } else { (note.kind, None) };
        let flood = self.floods.entry(key).or_insert(Flood { since: now, length: FIRST_SUM, singles: 0, sum: None });
        let singles = self.singles.filter(|(since, _)| now.duration_since(*since) < FIRST_SUM).unwrap_or((now, 0));
        if flood.singles < SINGLES && singles.1 < MAX_SINGLES {
            flood.singles = flood.singles.saturating_add(1);
            self.singles = Some((singles.0, singles.1.saturating_add(1)));
            return Some(note);
        }
        match &mut flood.sum {
            Some(sum) => add(sum, note),
            None => flood.sum = Some(Note { request_id: None, ..note }),
        }
        None
    }

    /// The sums that are due; all of them, where this is the end.
    pub fn sums(&mut self, now: Instant, is_end: bool) -> Vec<Note> {
        let mut sums = Vec::new();
        self.floods.retain(|_, flood| {
            if !is_end && now.duration_since(flood.since) < flood.length {
                return true;
            }
            let sum = flood.sum.take();
            let goes_on = sum.is_some() && !is_end;
            sums.extend(sum);
            flood.since = now;
            flood.length = flood.length.saturating_mul(2).min(LONGEST_SUM);
            goes_on
        });
        sums
    }

    /// Puts a record in the queue; false where there is no room.
    pub fn push(&mut self, entry: Entry) -> bool {
        let has_room = self.waiting.len() < self.most;
        if has_room {
            self.waiting.push_back(entry);
        }
        has_room
    }

    /// The first records.
    pub fn first(&self, records: usize) -> Vec<Entry> {
        self.waiting.iter().take(records).cloned().collect()
    }

    /// They are written.
    pub fn written(&mut self, records: usize) {
        self.waiting.drain(..records.min(self.waiting.len()));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// What is not the same in all of them is not told.
fn add(sum: &mut Note, note: Note) {
    sum.times = sum.times.saturating_add(note.times);
    if sum.actor != note.actor {
        sum.actor = "various".into();
    }
    let fields = [
        (&mut sum.project, note.project),
        (&mut sum.repository, note.repository),
        (&mut sum.reference, note.reference),
        (&mut sum.digest, note.digest),
        (&mut sum.reason, note.reason),
    ];
    for (kept, further) in fields {
        if *kept != further {
            *kept = None;
        }
    }
    if sum.address != note.address {
        sum.address = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::Timestamp;
    use portcullis_tenancy::audit::AuditKeys;
    use portcullis_tenancy::key::MasterKey;

    fn failure(address: &str, actor: &str) -> Note {
        Note::new(Kind::LoginFailure, actor).from(address.parse().unwrap())
    }

    fn told(queue: &mut Queue, notes: impl IntoIterator<Item = Note>, now: Instant) -> Vec<Note> {
        notes.into_iter().filter_map(|note| queue.tell(note, now)).collect()
    }

    #[test]
    fn a_flood_is_a_few_records_whose_counts_are_its_size() {
        let (mut queue, begin) = (Queue::new(100), Instant::now());
        let single = told(&mut queue, (0..200).map(|_| failure("192.0.2.1", "acme+ci")), begin);
        assert_eq!(single.len(), 3);
        assert_eq!(queue.sums(begin + Duration::from_secs(9), false), []);
        let sums = queue.sums(begin + Duration::from_secs(10), false);
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].times, &*sums[0].actor), (197, "acme+ci"));
    }

    #[test]
    fn a_flood_that_goes_on_is_told_less_and_less_often_and_then_forgotten() {
        let (mut queue, begin) = (Queue::new(100), Instant::now());
        let (mut sums, mut times) = (0, 0);
        for second in 0..3600 {
            let now = begin + Duration::from_secs(second);
            times += told(&mut queue, [failure("192.0.2.1", "acme+ci")], now).len() as u64;
            for sum in queue.sums(now, false) {
                sums += 1;
                times += sum.times;
            }
        }
        assert!(sums < 15, "{sums}");
        times += queue.sums(begin + Duration::from_secs(3600), true).iter().map(|sum| sum.times).sum::<u64>();
        assert_eq!(times, 3600, "and none is left out");
        assert!(queue.floods.is_empty());
    }

    #[test]
    fn addresses_and_kinds_are_told_apart_and_one_network_of_ipv6_is_not() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        let addresses = ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
        let notes = (0..10).flat_map(|_| addresses.map(|address| failure(address, "acme+ci")));
        assert_eq!(told(&mut queue, notes, now).len(), 4 * 3);
        let other = Note { kind: Kind::AccessDenial, ..failure("192.0.2.1", "acme+ci") };
        assert!(queue.tell(other, now).is_some());
        let sums = queue.sums(now, true);
        assert_eq!(sums.iter().map(|sum| sum.times).sum::<u64>(), 60 - 12);
        assert!(sums.iter().any(|sum| sum.address.is_none()), "{sums:?}");
    }

    #[test]
    fn what_differs_in_a_sum_is_left_out() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        told(&mut queue, (0..3).map(|_| failure("192.0.2.1", "x")), now);
        let note =
            |actor: &str, project: &str| failure("192.0.2.1", actor).project(project).because("wrong").request("r");
        assert_eq!(told(&mut queue, [note("a", "acme"), note("b", "acme"), note("a", "globex")], now), []);
        let sum = &queue.sums(now, true)[0];
        assert_eq!((&*sum.actor, &sum.project, sum.reason.as_deref()), ("various", &None, Some("wrong")));
        assert_eq!((sum.request_id.as_deref(), sum.times), (None, 3));
    }

    #[test]
    fn ten_thousand_addresses_take_up_little_and_none_is_left_out() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(number));
        let notes = (0..10_000).map(|number| Note::new(Kind::LoginFailure, "x").from(address(number)));
        let singles = told(&mut queue, notes, now).len();
        assert!(singles <= MAX_SINGLES as usize, "{singles}");
        assert!(queue.floods.len() <= MAX_FLOODS + Kind::ALL.len());
        let times = queue.sums(now, true).iter().map(|sum| sum.times).sum::<u64>();
        assert_eq!(times + singles as u64, 10_000);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_written_makes_room() {
        let keys = AuditKeys::new(&MasterKey::new([1; 32]));
        let entry =
            || keys.seal(failure("192.0.2.1", "x"), "node", Timestamp::UNIX_EPOCH, &|bytes: &mut [u8]| bytes.fill(1));
        let mut queue = Queue::new(2);
        assert!(queue.push(entry()) && queue.push(entry()));
        assert!(!queue.push(entry()));
        assert_eq!(queue.first(10).len(), 2);
        queue.written(1);
        assert!(queue.push(entry()));
        assert_eq!(queue.len(), 2);
    }
}
