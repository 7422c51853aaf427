// Package webhook turns a push event of a Git server into "look at this source now".
//
//	Git server ──POST /hooks/<source>──▶ Handler ──Poke──▶ source ──▶ template ──▶ …
//
// It stands in front of the flow and is a leaf: it knows nothing of sources but a name, a
// secret, a ref and a function to call. A hook never carries data into the flow. All that
// it can cause is one look that the next poll would have made anyway, so whatever is
// refused, lost or limited here costs time (until the next poll) and never correctness.
//
// # Order of the checks
//
// Cheap ones first: remote address not over its budget, method, path, sizes and types in
// the headers, a signature header of the right form. Only then is the body read, within
// [Limits], and its signature checked before anything looks at what it says.
//
//	200  ping
//	202  accepted; or "ignored: …" (another ref, another event, seen before)
//	400  signed, but no event of this provider; or the body was cut off
//	401  signature missing, malformed, stale or wrong
//	404  no hook of that name
//	405  not POST
//	408  the body came too slowly
//	413  the body is too large
//	415  not JSON (or a form, where the provider has one), or compressed
//	429  too many failed attempts from this address, or too many at once
//	503  too many deliveries at once, or the secret file cannot be used (the log says why)
//
// A wrong name is told from a wrong secret. The name of a source is no secret (it is in
// the interface, in logs and on every resource), nothing depends on it being hidden, and
// whoever sets up a hook has to see which of the two is wrong. A 404 costs one map look-up.
//
// An answer is one of a fixed set of texts. It never repeats what was sent.
//
// # What each provider makes possible
//
//   - [GitHub]: X-Hub-Signature-256, an HMAC-SHA256 of the body. Neither X-GitHub-Event nor
//     X-GitHub-Delivery is signed, and there is no time in it. So a repeated body is known
//     by its MAC, not by its delivery ID, for [Limits].ReplayWindow. Events push, create,
//     delete and ping; JSON or form. SHA-1 (X-Hub-Signature) is not accepted.
//   - [GitLab]: either the secret token, sent in the clear in X-Gitlab-Token. That proves who
//     sends and nothing about the body, and who sees one delivery can forge others: use it
//     over TLS only. A repeat is known by Idempotency-Key and body. Or a signing token
//     (a line "whsec_<base64>" in the secret file): the headers webhook-id,
//     webhook-timestamp and webhook-signature as in Standard Webhooks. ID, time and body
//     are signed; the time may be off by [TimestampTolerance]. A secret of the second form is never
//     accepted in the clear. Push Hook, Tag Push Hook, System Hook. GitLab has no ping, and
//     sends nothing for a push of more than push_event_hooks_limit refs (3).
//   - [Gitea], also Forgejo and Gogs: X-Forgejo-Signature, X-Gitea-Signature or
//     X-Gogs-Signature (hex HMAC-SHA256 of the body), or X-Hub-Signature-256. The first that is
//     there decides. As GitHub otherwise, but JSON only: Gitea signs the JSON inside a form, not
//     the body that arrives. "Test delivery" is a push event.
//   - [Bitbucket], Cloud and Data Center: X-Hub-Signature with sha256=. Events repo:push;
//     repo:refs_changed, mirror:repo_synchronized and diagnostics:ping. Replays as GitHub.
//   - [Generic]: see below.
//
// A delivery that was seen before is answered with 202 and causes no look. Somebody may
// have pressed "redeliver", which is no attack. What was seen is forgotten in a restart.
//
// The deletion of a followed ref triggers too: that it is gone is worth knowing soon, and
// a deleted tag changes what a range of versions means. No provider sends a push event for
// refs like refs/pull/7/merge: such a source is found by its poll, or by a generic hook.
//
// # Generic
//
// For any other server: a POST with X-Signature: sha256=<hex HMAC-SHA256>. With
// X-Signature-Timestamp: <Unix seconds> the HMAC is over "<seconds>.<body>", and the time may
// be off by [TimestampTolerance]; without, it is over the body alone. The body is empty ("look now") or
// a JSON object, of which "ref" is read: {"ref": "refs/heads/main"}. Other fields are free.
// X-Delivery-Id is logged. From a shell:
//
//	body='{"ref": "refs/heads/main"}'
//	now=$(date +%s)
//	sum=$(printf '%s.%s' "$now" "$body" | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1)
//	curl --fail -H 'Content-Type: application/json' -H "X-Signature-Timestamp: $now" \
//	    -H "X-Signature: sha256=$sum" --data-binary "$body" https://syncd.example.com/hooks/fleet
//
// (On a machine that is shared with others: openssl's arguments are seen in the list of processes.)
//
// With a timestamp the same call is taken once: whoever may call twice within a second puts
// something different into the body, say the new commit. Without a timestamp a repeat cannot
// be told from a second call, so every one counts, and only the source's rate limits them.
package webhook
