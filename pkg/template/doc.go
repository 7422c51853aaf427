// Package template reads a revision: it finds the cluster templates and the plain COSI manifests among everything
// else that lives in a repository, and says where in a file each thing stands and what is wrong with it.
//
// It is the second step of the flow
//
//	source → template → render → diff → sync → omni
//
// It gets an fs.FS from package source and hands a [Set] to package render. What a template means is upstream's
// business (github.com/siderolabs/omni/client/pkg/template); this package only prepares the text for it: the files a
// template refers to by `file:` are put into the text ([Template.Inlined]), because upstream would look for them on
// the disk, and what upstream then has to say is brought back to a position in the repository ([Template.Locate]).
//
// # What counts as what
//
// Only files named *.yaml and *.yml are looked at, and no folder whose name begins with a dot. A file is
//
//   - a template, if one of its documents says `kind: Cluster` and has no apiVersion (with one it is a Kubernetes
//     manifest). One file is one template.
//   - a file of manifests, if a document has a metadata mapping with namespace, type and id and no apiVersion.
//   - none of our business otherwise: config patches, Helm values, Helm templates that are not even YAML, Kubernetes
//     manifests. Such a file is never an error.
//
// A file that was clearly meant to be a template or a manifest but is broken is a problem, not one of the others:
// left out silently it would look like a deleted cluster. Only a file that a template refers to by `file:` is spared
// that suspicion, since its content is the cluster's and not ours.
//
// # Problems
//
// Nothing here fails as a whole. What could be read is in the Set, what is wrong is in the Problems, and a template
// that has problems carries them ([Template.Problems]), so that it is not rendered while the others are.
package template
