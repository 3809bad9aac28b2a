//! What looked wrong is looked at once more before it counts. The upstream is asked first, then the journal, then the record: what
//! goes through a gateway meanwhile is in one of the two.

use super::Outcome;
use super::drift::{Finding, Kind, Subject};
use super::place::{Place, Told};
use futures_util::{StreamExt, TryStreamExt, stream};
use portcullis_oci::Reference;
use std::time::Duration;

/// How long after the first look.
const PAUSE: Duration = Duration::from_millis(500);

impl Place<'_> {
    /// Looks again at what differs, and mends it where it is to.
    pub(super) async fn reconcile(&self, found: Vec<Finding>, repair: bool) -> anyhow::Result<Outcome> {
        if found.is_empty() {
            return Ok(Outcome::default());
        }
        tokio::time::sleep(PAUSE).await;
        let (tags, others): (Vec<Finding>, Vec<Finding>) =
            found.into_iter().partition(|finding| matches!(finding.subject, Subject::Tag(_)));
        let mut outcome = self.look_again(others).await?;
        if repair {
            // A manifest comes before the tags on it, and goes after them.
            self.mend(&mut outcome.findings, |kind| kind != Kind::MissingUpstream).await?;
        }
        let tags = tags.into_iter().filter_map(|finding| match finding.subject {
            Subject::Tag(tag) => Some(tag),
            _ => None,
        });
        let tags = self.settle_tags(tags.collect(), repair).await?;
        if repair {
            self.mend(&mut outcome.findings, |kind| kind == Kind::MissingUpstream).await?;
        }
        outcome.findings.extend(tags.findings);
        outcome.under_way = outcome.under_way.saturating_add(tags.under_way);
        Ok(outcome)
    }

    /// What is still as it was, and what of it somebody is at work at.
    pub(super) async fn look_again(&self, found: Vec<Finding>) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        if found.is_empty() {
            return Ok(outcome);
        }
        let ask = |finding: Finding| async move { Ok::<_, anyhow::Error>((self.told_of(&finding).await?, finding)) };
        let asked = stream::iter(found).map(ask).buffered(self.walker.at_once);
        let asked: Vec<(Told, Finding)> = asked.try_collect().await?;
        let entries = self.under_way().await?;
        let tags = self.tags_on_record().await?;
        for (told, first) in asked {
            let Told::Fact(upstream) = told else { continue };
            let recorded = self.on_record(&first.subject, &tags).await?;
            let second = Finding::judge(&self.repository, first.subject, recorded, upstream);
            let Some(second) = second.filter(|second| second.kind == first.kind) else { continue };
            if entries.iter().any(|entry| second.is_touched_by(entry)) {
                outcome.under_way = outcome.under_way.saturating_add(1);
            } else {
                outcome.findings.push(second);
            }
        }
        Ok(outcome)
    }

    async fn told_of(&self, finding: &Finding) -> anyhow::Result<Told> {
        if let (Kind::MissingInLedger, Subject::Blob { named_by: Some(manifest), .. }) =
            (finding.kind, &finding.subject)
            && self.digest(&Reference::Digest(manifest.clone())).await?.is_none()
        {
            // What named it has gone.
            return Ok(Told::Nonsense);
        }
        self.told(&finding.subject).await
    }
}
