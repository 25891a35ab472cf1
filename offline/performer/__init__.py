"""The performed corpus: generated people whose valence and arousal are known, as videos with sound.

A person (`person`) performs a trajectory (`trajectory`) with what they say (`script`), how they say it
(`voice`) and how they look (`expression`, `portrait`, `face`); `performance` plans it, `recording` writes it and
`corpus` does so for many people, in the layout of Aff-Wild2. `demo` makes the recording that ships.
"""
