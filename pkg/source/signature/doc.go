// Package signature decides whether a Git commit or an annotated tag is signed by
// one of the keys that the configuration lists.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	  └ signature: may this commit become a revision?
//
// It is a leaf below package source. It gets the raw objects, runs no program and
// reads nothing but the key files.
//
// # What is signed
//
// A commit carries its signature in the header gpgsig; what is signed is the object
// without that header. A header gpgsig-sha256, which the same commit has in a
// repository that is also kept in SHA-256, is no part of what is signed and its
// content is not looked at: git does the same. Any other header whose name starts
// with gpgsig is refused, because git leaves it out of the signed bytes too and
// anybody could add one. A tag carries its signature at the end of its message; what
// is signed is everything before.
//
// This package is stricter than git where git is lenient: one signature per object,
// nothing after it, no carriage returns in it, headers in the order in which git
// writes them, and the object must have the ID under which it was asked for.
//
// # Whose signature counts
//
// Keys are listed by the operator, and being listed is all the trust there is: there
// is no web of trust and no key server, and the e-mail address of the committer is
// not compared with the key.
//
// For OpenPGP the rules are those of Flux (go-crypto's CheckArmoredDetachedSignature)
// with what `git verify-commit` refuses on top:
//
//   - The primary key, the signing subkey and the signature must not be expired now,
//     even if they were valid when the signature was made. An expired key therefore
//     refuses the commits that it signed before, like git does. Extend the key and
//     replace its file.
//   - A revocation in the key file counts from the moment it is there, for every
//     signature, whatever date or reason it states.
//   - The signature must not be older than the key and not be made in the future.
//   - SHA-256 or better; MD5, SHA-1, SHA-224 and RIPEMD-160 are refused. No DSA, no
//     RSA below 2048 bits, no secp256k1. Version 4 signatures over binary data only.
//
// For SSH the rules are those of ssh-keygen and git:
//
//   - The namespace is "git" and the hash sha256 or sha512; RSA keys have at least
//     2048 bits and sign with SHA-2. Certificates are refused.
//   - An SSH signature has no time. valid-after and valid-before are compared with
//     the time that the committer (or tagger) claims, as git does, and valid-after
//     with the clock as well. Whoever has the key can claim an old time: the answer
//     to a stolen key is to remove its line, not to set valid-before.
//
// # Key files
//
// They are read again at every check, so that a rotated key needs no restart. A file
// that cannot be read or understood refuses everything until it can: a check with
// only a part of the keys would be a surprise in either direction.
package signature
