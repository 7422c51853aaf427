// The custom resource definitions of the Prometheus operator, for the tests of the chart. No
// Go of it is built: they lie in the module's folder.
module github.com/omni-syncd/omni-syncd/deploy/helm/crds

go 1.26.4

require github.com/prometheus-operator/prometheus-operator v0.94.0
