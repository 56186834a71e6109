//! Whose tasks a request is about. The list, the counters, the websocket and the bulk actions all ask here, so that they show
//! and change the same set.

use super::caller::Caller;
use super::error::Problem;
use super::query::Fields;
use crate::http::limits::ClientLimits;
use crate::task::access::Action;
use crate::views::Scope;

/// Takes the field `owner`: whose tasks the request is about. Without the field it is the caller's default scope.
///
/// # Errors
/// 422 if the field is invalid; 404 `not_found` if it names tasks that the caller may not see.
pub fn take_scope(fields: &mut Fields, caller: &Caller, limits: &ClientLimits) -> Result<Scope, Problem> {
    let named = fields.take_owners(limits)?;
    permit(named, default_scope(caller), &visible_scope(caller))
}

/// Whose tasks a request of this caller is about if it doesn't say so.
fn default_scope(caller: &Caller) -> Scope {
    if caller.identity.sees_everyone_by_default() { Scope::Everyone } else { Scope::of(caller.subject()) }
}

/// The tasks that this caller may see.
#[must_use]
pub fn visible_scope(caller: &Caller) -> Scope {
    if caller.check(Action::ReadAllTasks).is_ok() { Scope::Everyone } else { Scope::of(caller.subject()) }
}

/// The named scope, or the default one. What is not visible to the caller is not found.
fn permit(named: Option<Scope>, default: Scope, visible: &Scope) -> Result<Scope, Problem> {
    let scope = named.unwrap_or(default);
    if visible.contains(&scope) { Ok(scope) } else { Err(Problem::not_found()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_the_named_tasks_or_the_callers_own_default_and_others_are_not_found() {
        let [ann, both] = [vec!["ann".to_owned()], vec!["ann".to_owned(), "bob".to_owned()]].map(Scope::Owners);
        let (everyone, bob) = (Scope::Everyone, Scope::of("bob"));
        for (named, default, visible, expected) in [
            (None, &ann, &ann, Some(&ann)),
            (Some(&ann), &ann, &ann, Some(&ann)),
            (Some(&bob), &ann, &ann, None),
            (Some(&both), &ann, &ann, None),
            (Some(&everyone), &ann, &ann, None),
            (None, &ann, &everyone, Some(&ann)),
            (Some(&both), &ann, &everyone, Some(&both)),
            (Some(&everyone), &ann, &everyone, Some(&everyone)),
            (None, &everyone, &everyone, Some(&everyone)),
        ] {
            let found = permit(named.cloned(), default.clone(), visible);
            let status = found.as_ref().err().map(|problem| problem.status.as_u16());
            assert_eq!(status, expected.is_none().then_some(404), "{named:?} of {visible:?}");
            assert_eq!(found.ok().as_ref(), expected, "{named:?} of {visible:?}");
        }
    }
}
