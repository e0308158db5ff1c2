"""SEN, the symmetry-enhanced equivariance network (Liang et al., Nat. Commun. 14, 5198 (2023))."""
