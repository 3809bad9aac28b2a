//! Whether a ratio of times is kept, on a machine that is never quiet: each round is a vote, and there are rounds until one side
//! leads clearly. What the machine does to a round takes its vote, not the verdict.

/// By how many votes one side leads in the end. Where seven rounds of ten are right, so is the verdict in 69 cases of 70.
const LEAD: usize = 5;
/// Most rounds; an odd number, so that one side leads at least by one.
const ROUNDS: usize = 25;

/// Takes rounds, each of which gives a ratio, until most of them are clearly within the limit or clearly beyond: whether they
/// are within, and all ratios, in order of size.
pub(crate) fn within(limit: f64, mut round: impl FnMut() -> f64) -> (bool, Vec<f64>) {
    let mut ratios = Vec::new();
    let (mut kept, mut broken) = (0_usize, 0_usize);
    while kept.abs_diff(broken) < LEAD && ratios.len() < ROUNDS {
        let ratio = round();
        ratios.push(ratio);
        // A ratio that is no number keeps nothing.
        if ratio <= limit { kept += 1 } else { broken += 1 }
    }
    ratios.sort_by(f64::total_cmp);
    (kept > broken, ratios)
}

#[test]
fn a_clear_case_is_short_and_an_unclear_one_is_decided_by_most() {
    let told = |ratios: &[f64]| {
        let mut rounds = ratios.iter().cycle().copied();
        let (is_within, all) = within(1.5, || rounds.next().unwrap());
        (is_within, all.len())
    };
    assert_eq!(told(&[1.1]), (true, 5));
    assert_eq!(told(&[1.6]), (false, 5));
    assert_eq!(told(&[f64::NAN]), (false, 5));
    assert_eq!(told(&[9.0, 1.1, 1.1]), (true, 15), "one bad round in three delays the verdict and does not turn it");
    assert_eq!(told(&[1.1, 9.0]), (true, 25));
    assert_eq!(told(&[9.0, 1.1]), (false, 25));
}
