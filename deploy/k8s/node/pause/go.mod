// The container that holds the namespaces of a pod, built by deploy/k8s/node/node_programs.py.
module segue/node/pause

go 1.26.0
