// Package access lets people and machines into the clusters that omni-syncd syncs, and
// into no others.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	                                             │ who is managed   │ kubeconfig, talosconfig
//	                                             └────▶ access ◀────┘
//	                                                      │
//	                          server/api, cmd (verbs) ◀───┴───▶ a directory of files,
//	                                                            Secrets of Kubernetes
//
// It stands beside the flow and changes nothing in Omni. It has three parts.
//
// An [Issuer] hands out kubeconfigs and talosconfigs, byte for byte as Omni gives them:
// only of clusters that a source manages, and with a token in them only as far as a
// [ServiceAccountPolicy] allows it. Who may ask is decided before, by the API.
//
// [MergeKubeconfig] and [MergeTalosconfig] put one into the files of the person who asked,
// next to what is there.
//
// A [Keeper] keeps a [Store] filled with the configs of all managed clusters; a
// [Directory] is such a store, and [Secrets] in the form that Argo CD or Flux reads.
//
// Tokens, and the files they stand in, enter no error and no log (G9): of what cannot be
// read, only the line is told.
package access
