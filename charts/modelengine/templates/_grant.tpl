{{/*
Gives rules to a ServiceAccount of the release: in each watched namespace by a Role, or everywhere by a ClusterRole.
`root`, `component`, `rules` (text), and for hooks `roleAnnotations` and `bindingAnnotations` (text).
*/}}
{{- define "modelengine.grant" -}}
{{- $fullname := include "modelengine.fullname" .root -}}
{{- $name := printf "%s-%s" $fullname .component -}}
{{- $labels := include "modelengine.labels" . -}}
{{- range $namespace := .root.Values.watchNamespaces | default (list "") }}
{{- $scope := empty $namespace | ternary "Cluster" "" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}Role
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- $labels | nindent 4 }}
  {{- with $.roleAnnotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
rules: {{- $.rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}RoleBinding
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- $labels | nindent 4 }}
  {{- with $.bindingAnnotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope }}Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ $.root.Release.Namespace }}
{{- end }}
{{- end }}
