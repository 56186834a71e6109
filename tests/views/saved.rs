//! Views that were written as bytes and read back equal the views that they were written from, and go on equally.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use taskbell::store::Recorded;
use taskbell::views::Views;
use taskbell::views::saved::Restorer;

use super::history::random_log;
use super::laws::{any_filter, check_counters, check_pages};
use super::oracle::Oracle;
use crate::event_contract::logs;

fn parts(views: &Views) -> Vec<Vec<u8>> {
    views.capture().unwrap().parts().map(Option::unwrap).collect()
}

fn restore(parts: &[Vec<u8>]) -> Option<Views> {
    let mut restorer = Restorer::new(parts.first()?)?;
    for block in &parts[1..] {
        restorer.add_block(block)?;
    }
    restorer.finish()
}

#[test]
fn views_that_were_read_back_at_random_moments_equal_those_that_were_not() {
    for seed in 0..4 {
        let log = random_log(seed, 3000);
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut plain, mut restored, mut oracle) = (Views::default(), Views::default(), Oracle::default());
        for recorded in &log.events {
            let (one, other) = (plain.apply(recorded), restored.apply(recorded));
            oracle.apply(recorded);
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "seed {seed} at {}", recorded.position);
            if rng.random_bool(0.01) {
                if rng.random_bool(0.5) {
                    restored.pack();
                }
                restored = restore(&parts(&restored)).unwrap();
            }
            if recorded.position.0 % 250 == 0 {
                assert_eq!(plain.digest(), restored.digest(), "seed {seed} at {}", recorded.position);
                assert_eq!((plain.time(), plain.latest()), (restored.time(), restored.latest()));
                check_pages(&restored, &oracle, &mut rng, &log, 4, any_filter);
                check_counters(&restored, &oracle, &mut rng, &log, 4, any_filter);
            }
        }
    }
}

#[test]
fn views_of_the_recorded_logs_are_read_back_at_every_position() {
    for log in logs() {
        let jsonl = std::fs::read_to_string(log.with_added_extension("jsonl")).unwrap();
        let (mut plain, mut restored) = (Views::default(), Views::default());
        for line in jsonl.lines() {
            let recorded = Recorded::from_json(line).unwrap();
            plain.apply(&recorded);
            restored.apply(&recorded);
            restored = restore(&parts(&restored)).unwrap();
            assert_eq!(plain.digest(), restored.digest(), "{} at {}", log.display(), recorded.position);
        }
    }
}

#[test]
fn bytes_that_are_cut_or_changed_are_refused_or_read_without_a_panic() {
    let log = random_log(7, 1200);
    let mut views = Views::default();
    log.events.iter().for_each(|recorded| drop(views.apply(recorded)));
    views.pack();
    let whole = parts(&views);
    assert!(whole.len() > 1);
    assert!(restore(&whole[..whole.len() - 1]).is_none(), "a block is missing");
    assert!(restore(&[whole.clone(), vec![whole[1].clone()]].concat()).is_none(), "a block too many");
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..2000 {
        let mut changed = whole.clone();
        let part = rng.random_range(0..changed.len());
        let at = rng.random_range(0..changed[part].len());
        if rng.random_bool(0.5) {
            changed[part].truncate(at);
            assert!(restore(&changed).is_none(), "part {part} is cut at {at}");
        } else {
            changed[part][at] ^= 1 << rng.random_range(0..8);
            drop(restore(&changed));
        }
    }
}
