// Package source turns a Git ref or a directory into revisions: immutable
// trees with an identity.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	Revision
//
// It is the first stage of the flow and a leaf: it knows nothing about what the
// files mean. [Git] and [Dir] have the same two methods. Fetch looks once; Watch
// keeps looking and calls back with every new revision and every failure.
//
// What both promise about a [Revision]:
//
//   - It never changes. It stays readable after newer ones arrived, from any number
//     of goroutines.
//   - Equal IDs mean equal trees. The reverse holds for directories only: two
//     commits may hold the same tree.
//   - Nothing outside of the repository or directory can be read through it:
//     symbolic links are followed inside of it and refused when they leave it.
//   - It is bounded (see the constants), and what is over a bound is an error that
//     names the object, never a silent omission.
//
// Repositories are hostile until checked. No hook, filter or configuration of a
// repository is ever run, and no git binary is needed.
package source
