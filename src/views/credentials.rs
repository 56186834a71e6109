//! The API tokens and the sessions: which exist, and which are valid at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::bytes::{Reader, Writer};
use super::cursor::{Cursor, InvalidCursor};
use super::key_page::page_of_keys;
use super::page::PageRequest;
use crate::store::Fact;
use crate::task::session::{SessionEvent, SessionOpened};
use crate::task::token::{TokenCreated, TokenEvent};
use crate::task::{Position, Timestamp};

/// An API token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// What the event `TokenCreated` says.
    pub created: Arc<TokenCreated>,
    /// The position of that event.
    pub created_position: Position,
    /// When the token was created.
    pub created_at: Timestamp,
    /// The subject who created it.
    pub created_by: Box<str>,
    /// When the token was revoked; `None` if it was not revoked.
    pub revoked_at: Option<Timestamp>,
}

/// One page of the tokens.
#[derive(Debug)]
pub struct TokenPage<'a> {
    /// The ids and the tokens, in the order of the request.
    pub items: Vec<(Uuid, &'a TokenRow)>,
    /// The cursor of the page after this one; `None` on the last page.
    pub next: Option<Cursor>,
    /// The cursor of the page before this one; `None` on the first page.
    pub prev: Option<Cursor>,
    /// How many tokens there are on all pages together.
    pub total: usize,
}

/// The tokens, also the revoked ones, and the sessions that have not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    tokens: BTreeMap<Uuid, TokenRow>,
    /// The tokens in the order of their creation.
    tokens_by_position: BTreeMap<Position, Uuid>,
    sessions: BTreeMap<Uuid, Arc<SessionOpened>>,
    /// The sessions in the order in which they expire.
    sessions_by_expiry: BTreeSet<(Timestamp, Uuid)>,
    /// The sessions of each subject, in the order in which they expire.
    sessions_by_subject: BTreeMap<String, BTreeSet<(Timestamp, Uuid)>>,
}

impl Credentials {
    /// The token with this id, also if it was revoked or has expired.
    #[must_use]
    pub fn token(&self, id: Uuid) -> Option<&TokenRow> {
        self.tokens.get(&id)
    }

    /// The tokens, in the order of their creation.
    #[cfg(feature = "testing")]
    pub fn tokens(&self) -> impl Iterator<Item = (Uuid, &TokenRow)> {
        self.tokens_by_position.values().filter_map(|id| Some((*id, self.tokens.get(id)?)))
    }

    /// The sessions that were not ended, in the order of their ids. Expired ones may be among them.
    #[cfg(feature = "testing")]
    pub fn sessions(&self) -> impl Iterator<Item = (Uuid, &Arc<SessionOpened>)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// Whether a token is neither revoked nor expired at this time.
    #[must_use]
    pub fn has_valid_token(&self, now: Timestamp) -> bool {
        self.tokens.keys().any(|id| self.valid_token(*id, now).is_some())
    }

    /// A page of the tokens.
    ///
    /// # Errors
    /// [`InvalidCursor`] if the cursor belongs to another list.
    pub fn token_page(&self, request: &PageRequest) -> Result<TokenPage<'_>, InvalidCursor> {
        let keys = page_of_keys(&self.tokens_by_position, request)?;
        let row = |(_, id): &(Position, Uuid)| Some((*id, self.tokens.get(id)?));
        let items = keys.items.iter().filter_map(row).collect();
        Ok(TokenPage { items, next: keys.next, prev: keys.prev, total: self.tokens.len() })
    }

    /// The token with this id, if it is neither revoked nor expired at this time.
    #[must_use]
    pub fn valid_token(&self, id: Uuid, now: Timestamp) -> Option<&TokenRow> {
        let is_valid = |token: &&TokenRow| {
            token.revoked_at.is_none() && token.created.expires_at.is_none_or(|expires_at| now < expires_at)
        };
        self.tokens.get(&id).filter(is_valid)
    }

    /// The session with this id, if neither it nor its token has ended or expired at this time.
    #[must_use]
    pub fn valid_session(&self, id: Uuid, now: Timestamp) -> Option<&Arc<SessionOpened>> {
        let is_valid = |session: &&Arc<SessionOpened>| {
            now < session.expires_at && session.token.is_none_or(|token| self.valid_token(token, now).is_some())
        };
        self.sessions.get(&id).filter(is_valid)
    }

    /// How many sessions of this subject have neither ended nor expired at this time.
    #[must_use]
    pub fn sessions_of(&self, subject: &str, now: Timestamp) -> usize {
        let sessions = self.sessions_by_subject.get(subject);
        sessions.map_or(0, |sessions| sessions.iter().rev().take_while(|(expires_at, _)| now < *expires_at).count())
    }

    /// The sessions of this subject that are valid at this time.
    #[must_use]
    pub fn valid_sessions_of(&self, subject: &str, now: Timestamp) -> Vec<Uuid> {
        let ids = self.sessions_by_subject.get(subject).into_iter().flatten().map(|(_, id)| *id);
        ids.filter(|id| self.valid_session(*id, now).is_some()).collect()
    }

    /// Returns `None` if a credential can't be written as JSON.
    pub(super) fn put(&self, writer: &mut Writer) -> Option<()> {
        writer.put(self.tokens.len() as u64);
        for (id, TokenRow { created, created_position, created_at, created_by, revoked_at }) in &self.tokens {
            writer.put_uuid(*id);
            writer.put_json(&**created)?;
            writer.put(created_position.0);
            writer.put_time(*created_at);
            writer.put_text(created_by);
            writer.put_option(*revoked_at, Writer::put_time);
        }
        writer.put(self.sessions.len() as u64);
        for (id, session) in &self.sessions {
            writer.put_uuid(*id);
            writer.put_json(&**session)?;
        }
        Some(())
    }

    pub(super) fn take(&mut self, reader: &mut Reader) -> Option<()> {
        for _ in 0..reader.take()? {
            let id = reader.take_uuid()?;
            let row = TokenRow {
                created: Arc::new(reader.take_json()?),
                created_position: Position(reader.take()?),
                created_at: reader.take_time()?,
                created_by: reader.take_text()?.into(),
                revoked_at: reader.take_option(Reader::take_time)?,
            };
            self.tokens_by_position.insert(row.created_position, id);
            self.tokens.insert(id, row);
        }
        for _ in 0..reader.take()? {
            let id = reader.take_uuid()?;
            self.add_session(id, reader.take_json()?);
        }
        Some(())
    }

    fn add_session(&mut self, id: Uuid, opened: SessionOpened) {
        self.sessions_by_expiry.insert((opened.expires_at, id));
        self.sessions_by_subject.entry(opened.subject.clone()).or_default().insert((opened.expires_at, id));
        self.sessions.insert(id, Arc::new(opened));
    }

    fn forget_session(&mut self, id: Uuid) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.sessions_by_expiry.remove(&(session.expires_at, id));
        if let Some(of_subject) = self.sessions_by_subject.get_mut(&session.subject) {
            of_subject.remove(&(session.expires_at, id));
            if of_subject.is_empty() {
                self.sessions_by_subject.remove(&session.subject);
            }
        }
    }

    pub(super) fn apply_token(&mut self, id: Uuid, event: &TokenEvent, recorded: &Fact) {
        match event {
            TokenEvent::TokenCreated(created) => {
                let (created_at, created_by) = (recorded.time, recorded.meta.actor.as_str().into());
                let (created, created_position) = (Arc::new(created.clone()), recorded.position);
                let row = TokenRow { created, created_position, created_at, created_by, revoked_at: None };
                self.tokens.insert(id, row);
                self.tokens_by_position.insert(created_position, id);
            }
            TokenEvent::TokenRevoked(_) => {
                if let Some(token) = self.tokens.get_mut(&id) {
                    token.revoked_at = Some(recorded.time);
                }
            }
        }
    }

    /// Applies the event. Sessions that had expired when a new one is opened are forgotten.
    pub(super) fn apply_session(&mut self, id: Uuid, event: &SessionEvent, recorded: &Fact) {
        match event {
            SessionEvent::SessionOpened(opened) => {
                while let Some((expires_at, expired)) = self.sessions_by_expiry.pop_first() {
                    if recorded.time < expires_at {
                        self.sessions_by_expiry.insert((expires_at, expired));
                        break;
                    }
                    self.forget_session(expired);
                }
                self.add_session(id, opened.clone());
            }
            SessionEvent::SessionEnded(_) => {
                self.forget_session(id);
            }
        }
    }
}
