//! Why a JWT is refused.

/// Why a JWT is refused. This is for the log, and contains nothing of the token; the client gets the same 401 for each reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtRefusal {
    /// The text is longer than any token.
    #[error("the token is longer than 16384 bytes")]
    TooLong,
    /// The text doesn't have three parts in base64url, or the first two aren't JSON objects without repeated names.
    #[error("the token is not a signed JWT")]
    Malformed,
    /// The header has a member of another type than the standard says.
    #[error("the token's header is malformed")]
    Header,
    /// The header names an algorithm that the settings don't allow.
    #[error("the token's algorithm is not one of the configured algorithms")]
    Algorithm,
    /// The header says that the token is something else than a JWT.
    #[error("the token's `typ` is neither JWT nor at+jwt")]
    Type,
    /// The header requires an extension. This server knows none.
    #[error("the token requires an extension (`crit`)")]
    Critical,
    /// The issuer has several keys, and the token names none.
    #[error("the token names no key, and the issuer has several")]
    NoKeyId,
    /// No key has the id that the token names.
    #[error("the token's key is none of the issuer's keys")]
    UnknownKey,
    /// The key is for another algorithm than the one that the token names.
    #[error("the token's algorithm doesn't fit to its key")]
    KeyOfOtherAlgorithm,
    /// The signature is not one of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// The token has another issuer, or none.
    #[error("the token's issuer is not the configured one")]
    Issuer,
    /// The token is for another audience, or for none.
    #[error("the token is not for the configured audience")]
    Audience,
    /// The claim `exp` is missing or no number.
    #[error("the token has no `exp` that is a number")]
    NoExpiry,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The claim `nbf` lies in the future, or is no number.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The subject is missing or not valid.
    #[error("the token's subject is not 1 to 128 printable characters without a comma")]
    Subject,
    /// The role claim has no value for which there is a role.
    #[error("the token's role is none of the configured roles")]
    Role,
    /// There is no role claim, and the settings name no role for that.
    #[error("the token has no role, and there is no default_role")]
    NoRole,
    /// The claim with the kinds is no list of names of kinds.
    #[error("the token's kinds are not a list of at most 1000 kinds")]
    Kinds,
}
