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

/// Checks that the caller may cancel the tasks of this scope.
///
/// # Errors
/// 404 if the caller may not see them; 403 if its role may not cancel.
pub fn check_command(caller: &Caller, scope: &Scope) -> Result<(), Problem> {
    let check = |action| caller.check(action).map(|_| ());
    match scope {
        Scope::Everyone => check(Action::CommandAllTasks),
        Scope::Owners(owners) => owners.iter().try_for_each(|owner| check(Action::CommandTask { owner })),
    }
}

/// The named scope, or the default one. What is not visible to the caller is not found.
fn permit(named: Option<Scope>, default: Scope, visible: &Scope) -> Result<Scope, Problem> {
    let scope = named.unwrap_or(default);
    if visible.contains(&scope) { Ok(scope) } else { Err(Problem::not_found()) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::http::identity::{Credential, Identity};
    use crate::store::Via;
    use crate::task::access::Role;

    /// Ann, with a token of this role.
    fn ann(role: Role) -> Caller {
        let subject = "ann".to_owned();
        let credential = Credential::Token(Uuid::nil());
        let identity = Identity { subject, role, kinds: None, credential, expires_at: None };
        Caller { identity, address: None, via: Via::Http, correlation_id: Uuid::nil(), request_id: None }
    }

    /// The scope of this caller's request with this query, or the status of its refusal.
    fn taken(caller: &Caller, query: &str) -> Result<Scope, u16> {
        let taken = take_scope(&mut Fields::from_query(query).unwrap(), caller, &ClientLimits::default());
        taken.map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn a_caller_with_a_credential_asks_for_its_own_tasks_and_only_some_roles_find_those_of_others() {
        let own = Scope::of("ann");
        for role in Role::ALL {
            let found = |scope: Scope| if role.sees_everyone() { Ok(scope) } else { Err(404) };
            let ann = ann(role);
            assert_eq!((taken(&ann, ""), taken(&ann, "owner=ann")), (Ok(own.clone()), Ok(own.clone())), "{role:?}");
            assert_eq!(taken(&ann, "owner=bob"), found(Scope::of("bob")), "{role:?}");
            assert_eq!(taken(&ann, "owner=*"), found(Scope::Everyone), "{role:?}");
            assert_eq!(visible_scope(&ann), found(Scope::Everyone).unwrap_or(own.clone()), "{role:?}");
        }
    }

    #[test]
    fn the_local_user_of_an_open_server_asks_for_everyones_tasks_and_may_name_its_own() {
        let local = Caller { identity: Identity::local(), ..ann(Role::Admin) };
        assert_eq!(taken(&local, ""), Ok(Scope::Everyone));
        assert_eq!(taken(&local, "owner=local"), Ok(Scope::of("local")));
    }

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
