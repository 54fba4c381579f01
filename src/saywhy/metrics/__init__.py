"""How good answers and explanations are, in numbers: each measure after its publication, with what it leaves open."""
