//! Whose tasks a request is about. The list, the counters, the websocket and the bulk actions all ask here, so that they show
//! and change the same set.

use super::caller::Caller;
use super::error::Problem;
use super::query::Fields;
use crate::http::limits::ClientLimits;
use crate::task::access::Action;
use crate::views::Scope;

/// Takes the field `owner`: whose tasks the request reads. Without the field it is the caller's default scope.
///
/// # Errors
/// 422 if the field is invalid; 404 `not_found` if it names tasks that the caller may not see.
pub fn take_scope(fields: &mut Fields, caller: &Caller, limits: &ClientLimits) -> Result<Scope, Problem> {
    let scope = fields.take_owners(limits)?.unwrap_or_else(|| default_scope(caller));
    check(caller, &scope, Action::ReadAllTasks, |owner| Action::ReadTasks { owner })?;
    Ok(scope)
}

/// The same for a request that commands these tasks.
///
/// # Errors
/// As [`take_scope`]; 403 `forbidden` if the caller's role may command no task.
pub fn take_scope_to_command(fields: &mut Fields, caller: &Caller, limits: &ClientLimits) -> Result<Scope, Problem> {
    let scope = fields.take_owners(limits)?.unwrap_or_else(|| default_scope(caller));
    check(caller, &scope, Action::CommandAllTasks, |owner| Action::CommandTask { owner })?;
    Ok(scope)
}

/// Checks that the caller may do this with the tasks of everyone, or with those of each owner in the scope.
fn check<'a>(
    caller: &Caller,
    scope: &'a Scope,
    with_everyones: Action<'_>,
    with_those_of: impl Fn(&'a str) -> Action<'a>,
) -> Result<(), Problem> {
    match scope {
        Scope::Everyone => caller.check(with_everyones).map(|_| ()),
        Scope::Owners(owners) => owners.iter().try_for_each(|owner| caller.check(with_those_of(owner)).map(|_| ())),
    }
}

/// Whose tasks a request of this caller is about if it doesn't say so.
fn default_scope(caller: &Caller) -> Scope {
    if caller.identity.sees_everyone_by_default() { Scope::Everyone } else { Scope::of(caller.subject()) }
}

/// The tasks that this caller may see.
#[must_use]
pub fn visible_scope(caller: &Caller) -> Scope {
    if caller.identity.role.sees_everyone() { Scope::Everyone } else { Scope::of(caller.subject()) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::http::identity::{Credential, Identity};
    use crate::store::Via;
    use crate::task::access::Role;

    /// A caller with a token.
    fn caller(role: Role) -> Caller {
        let identity = Identity {
            subject: "ann".to_owned(),
            role,
            kinds: None,
            credential: Credential::Token(Uuid::nil()),
            expires_at: None,
        };
        Caller { identity, address: None, via: Via::Http, correlation_id: Uuid::nil(), request_id: None }
    }

    fn local() -> Caller {
        Caller { identity: Identity::local(), ..caller(Role::Admin) }
    }

    type Take = fn(&mut Fields, &Caller, &ClientLimits) -> Result<Scope, Problem>;

    /// The scope of a request with this query, or the status of its refusal.
    fn taken(take: Take, caller: &Caller, query: &str) -> Result<Scope, u16> {
        let taken = take(&mut Fields::from_query(query).unwrap(), caller, &ClientLimits::default());
        taken.map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn a_request_is_about_the_named_tasks_or_the_callers_default_and_others_are_not_found() {
        let (ann, both) = (Scope::of("ann"), Scope::Owners(vec!["ann".to_owned(), "bob".to_owned()]));
        for role in [Role::User, Role::Worker, Role::Operator, Role::Admin, Role::Auditor] {
            let seen = |scope: Scope| if role.sees_everyone() { Ok(scope) } else { Err(404) };
            let own = |query| taken(take_scope, &caller(role), query);
            assert_eq!((own(""), own("owner=ann")), (Ok(ann.clone()), Ok(ann.clone())), "{role:?}");
            assert_eq!(own("owner=bob"), seen(Scope::of("bob")), "{role:?}");
            assert_eq!(own("owner=ann,bob"), seen(both.clone()), "{role:?}");
            assert_eq!(own("owner=*"), seen(Scope::Everyone), "{role:?}");
            assert_eq!(visible_scope(&caller(role)), seen(Scope::Everyone).unwrap_or(ann.clone()), "{role:?}");
        }
        assert_eq!(taken(take_scope, &local(), ""), Ok(Scope::Everyone));
        assert_eq!(taken(take_scope, &local(), "owner=local"), Ok(Scope::of("local")));
    }

    #[test]
    fn who_commands_no_task_is_forbidden_and_what_is_hidden_stays_not_found() {
        for (role, own, others) in [
            (Role::User, Ok(Scope::of("ann")), Err(404)),
            (Role::Worker, Ok(Scope::of("ann")), Err(404)),
            (Role::Operator, Ok(Scope::of("ann")), Ok(Scope::Everyone)),
            (Role::Auditor, Err(403), Err(403)),
        ] {
            assert_eq!(taken(take_scope_to_command, &caller(role), ""), own, "{role:?}");
            assert_eq!(taken(take_scope_to_command, &caller(role), "owner=*"), others, "{role:?}");
        }
        assert_eq!(taken(take_scope_to_command, &local(), ""), Ok(Scope::Everyone));
    }
}
