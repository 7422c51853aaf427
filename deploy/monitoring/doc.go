// Package monitoring tests what an operator sees of the daemon: the alerts and the dashboard
// in deploy/helm/omni-syncd/files, and the pages in docs that explain them.
package monitoring
