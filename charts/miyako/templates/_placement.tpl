{{- /*
Where pods may run. Distributions do not agree on the value of a role's label: kubeadm writes
`node-role.kubernetes.io/control-plane: ""`, k3s and RKE2 write "true". So a role that is asked for with an empty value is
asked for by its key alone, which no nodeSelector can say.
*/ -}}

{{- /* include "miyako.nodeSelector" .Values.operator.nodeSelector: all of it but the roles. */ -}}
{{- define "miyako.nodeSelector" -}}
kubernetes.io/os: linux
{{- range $key, $value := . }}
{{- if not (and (hasPrefix "node-role.kubernetes.io/" $key) (eq (toString $value) "")) }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* include "miyako.nodeAffinity" .Values.operator.nodeSelector: the roles; nothing where none is asked for. */ -}}
{{- define "miyako.nodeAffinity" -}}
{{- $roles := list }}
{{- range $key, $value := . }}
{{- if and (hasPrefix "node-role.kubernetes.io/" $key) (eq (toString $value) "") }}
{{- $roles = append $roles $key }}
{{- end }}
{{- end }}
{{- if $roles }}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          {{- range $roles }}
          - key: {{ . }}
            operator: Exists
          {{- end }}
{{- end }}
{{- end }}
